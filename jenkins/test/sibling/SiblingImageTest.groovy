package sibling

import groovy.json.JsonOutput
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.junit.Test

class SiblingImageTest extends LibraryTest {

    private static final String ID = 'sha256:' + '1' * 64
    private static final String DIGEST = 'sha256:' + '2' * 64
    private static final String NAME = 'registry.example/team/app:1'

    SiblingImageTest(String kind) {
        super(kind)
    }

    @Test
    void 'arguments become options and the context comes last'() {
        onAgent '''siblingImage.build(tags: ['registry.example/team/app:1', 'registry.example/team/app:latest'], push: true,
            context: 'docker', file: 'docker/Dockerfile.ci', buildArgs: [VERSION: '1.2', PROXY: null], target: 'run',
            labels: [team: 'a b'], platforms: ['linux/amd64', 'linux/arm64'], noCache: true, pull: true,
            cacheFrom: 'registry.example/team/app:cache', cacheTo: ['type=inline'], network: 'none', progress: 'plain',
            timeout: '20m', cpus: 2, memory: '4g', noSourceLabels: true, secrets: ['NPM', 'id=key,src=key.pem'])'''
        assert withoutMetadata(argv) == [
            'image', 'build', '--tag=registry.example/team/app:1', '--tag=registry.example/team/app:latest', '--push',
            '--file=docker/Dockerfile.ci', '--build-arg=VERSION=1.2', '--build-arg=PROXY', '--target=run',
            '--label=team=a b', '--platform=linux/amd64', '--platform=linux/arm64', '--no-cache', '--pull',
            '--cache-from=registry.example/team/app:cache', '--cache-to=type=inline', '--network=none',
            '--progress=plain', '--timeout=20m', '--cpus=2', '--memory=4g', '--no-source-labels', '--secret=id=NPM',
            '--secret=id=key,src=key.pem', 'docker',
        ]
    }

    @Test
    void 'the workspace is the context unless told otherwise'() {
        onAgent 'siblingImage.build()'
        assert withoutMetadata(argv) == ['image', 'build', '.']
        onAgent "siblingImage.build(output: 'type=local,dest=root', context: 'https://git.example/x.git#v1')"
        assert withoutMetadata(argv) == ['image', 'build', '--output=type=local,dest=root', 'https://git.example/x.git#v1']
    }

    @Test
    void 'a pushed image gives the digest of its manifest'() {
        answer('containerimage.config.digest': ID, 'containerimage.digest': DIGEST,
            'sibling.pushed': [[reference: NAME, digest: DIGEST]])
        assert onAgent("siblingImage.build(tags: '${NAME}', push: true)") == DIGEST
        assert new File(agent, 'workspace@tmp/sibling').list().size() == 0
    }

    @Test
    void 'an image that stays here gives its id'() {
        answer('containerimage.config.digest': ID, 'sibling.pushed': [])
        assert onAgent("siblingImage.build(tags: '${NAME}')") == ID
    }

    @Test
    void 'files instead of an image give nothing'() {
        answer('sibling.pushed': [])
        assert onAgent("siblingImage.build(output: 'type=tar,dest=root.tar')") == null
        assert onAgent("siblingImage.build(output: 'root')") == null
    }

    @Test
    void 'a push names its images and gives the digest'() {
        answer('sibling.pushed': [[reference: NAME, digest: DIGEST]])
        assert onAgent("siblingImage.push(tags: ['${NAME}', 'registry.example/team/app:latest'])") == DIGEST
        assert withoutMetadata(argv) == ['image', 'push', NAME, 'registry.example/team/app:latest']
        assert shells*.label == ['sibling image push']
    }

    @Test
    void 'a failure ends the build with the end of its log'() {
        sibling.answer(status: 1, output: '#5 [2/2] RUN make\n#5 ERROR: exit code: 2\n')
        assert failureOf { onAgent "siblingImage.build(tags: 'a')" } ==
            'siblingImage.build: `sibling image build` ended with exit code 1. The end of its log:\n' +
            '#5 [2/2] RUN make\n#5 ERROR: exit code: 2'
        assert failureOf { onAgent "siblingImage.push(tags: 'a')" }.startsWith(
            'siblingImage.push: `sibling image push` ended with exit code 1.')
    }

    @Test
    void 'an abort goes through as it is'() {
        helper.registerAllowedMethod('sh', [Map]) { Map step -> throw new FlowInterruptedException() }
        for (call in ["build(tags: 'a')", "push(tags: 'a')"]) {
            assert thrownBy { onAgent "siblingImage.${call}" } instanceof FlowInterruptedException
            assert helper.methodCallCount('readFile') == 0
        }
    }

    @Test
    void 'tokens and secrets stay in the environment'() {
        credentials.service = 'sbl_secret'
        credentials.npm = 'geheim'
        onAgent """withCredentials([string(credentialsId: 'npm', variable: 'NPM')]) {
            siblingImage.build(tags: 'a', secrets: 'NPM', url: 'https://sibling.example', credentialsId: 'service')
        }"""
        assert sibling.environment.SIBLING_TOKEN == 'sbl_secret'
        assert sibling.environment.NPM == 'geheim'
        assert !(shells[0].script =~ 'geheim|sbl_secret')
        assert argv.contains('--secret=id=NPM')
    }

    @Test
    void 'wrong arguments are told before anything runs'() {
        Map<String, String> wrong = [
            'build(push: true)': 'siblingImage.build: push needs tags',
            "build(tag: 'a')": 'siblingImage.build: there is no argument tag. There are: buildArgs, cacheFrom,',
            "build(buildArgs: ['A=1'])": 'siblingImage.build: buildArgs must be a map',
            "build(push: 'yes', tags: 'a')": 'siblingImage.build: push must be true or false.',
            "build(context: ['a'])": 'siblingImage.build: context must be a text.',
            "build(context: '-')": 'siblingImage.build: context - would be',
            "build(output: '-')": 'siblingImage.build: output must name a file',
            "build(output: 'type=tar')": 'siblingImage.build: output must name a file',
            "build(secrets: ['NPM=geheim'])": 'siblingImage.build: secrets holds names',
            "build(secrets: ['id=npm,value=geheim'])": 'siblingImage.build: secrets holds names',
            "build(secrets: [npm: 'geheim'])": 'siblingImage.build: secrets must be',
            'push()': 'siblingImage.push: tags is missing',
            'push(tags: [])': 'siblingImage.push: tags is missing',
            "push(tags: ['a'], push: true)": 'siblingImage.push: there is no argument push.',
        ]
        for (pair in wrong) {
            String message = failureOf { onAgent "siblingImage.${pair.key}" }
            assert message.startsWith(pair.value)
            assert !message.contains('geheim')
        }
        assert shells.empty
    }

    private void answer(Map<String, Object> metadata) {
        sibling.answer(metadata: JsonOutput.toJson(metadata))
    }

    /** The arguments without the file in the call's own folder, which must be there. */
    private List<String> withoutMetadata(List<String> argv) {
        List<String> metadata = argv.findAll { it.startsWith("--metadata-file=${agent}/workspace@tmp/sibling/") }
        assert metadata.size() == 1
        return argv - metadata
    }

}
