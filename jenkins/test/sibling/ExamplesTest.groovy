package sibling

import groovy.json.JsonOutput
import org.junit.Before
import org.junit.Test

/** Every file of `examples` runs, and does what is written here. */
class ExamplesTest extends LibraryTest {

    private static final String DIGEST = 'sha256:' + 'd' * 64
    private static final String RUN = 'run=jenkins-team-app-12-[0-9a-f]{12}'
    private static final String GIT = 'image=buildpack-deps:bookworm-scm'
    private static final String APP = 'registry.example/team/app'

    /** The labels, as patterns, and the commands without `--metadata-file`, of each example. */
    private static final Map<String, Map<String, List<String>>> EXPECTED = [
        'agent-by-label': [
            labels: ['image=python:3.12', 'image=python:3.13,cpus=2,memory=4g', 'image=python:3.13,run=[0-9a-f-]{36}'],
            commands: [],
        ],
        'agent-by-template': [labels: ['maven', 'maven && large'], commands: []],
        'build-and-push': [
            labels: ["image=python:3.12,${RUN}"],
            commands: ["image build --tag=${APP}:12 --push ."],
        ],
        'build-test-push': [
            labels: [GIT],
            commands: [
                "image build --tag=${APP}:12 --build-arg=VERSION=12 --secret=id=NPM_TOKEN .",
                "run --image=${APP}:12 --pull=never --command=app --self-test > report.xml --artifact=report.xml " +
                    '--output=results --timeout=5m',
                "image push ${APP}:12",
            ],
        ],
        'docker-in-a-build': [
            labels: ["image=registry.example/ci/python-docker:3.12,memory=2g,docker=scoped,${RUN}"],
            commands: [],
        ],
        matrix: [
            labels: ['3.11', '3.12', '3.13'].collectMany { python ->
                ['bookworm', 'alpine'].collect { "image=python:${python}-${it},cpus=1,memory=1g" }
            },
            commands: [],
        ],
        'multi-arch': [
            labels: ["${GIT},${RUN}"],
            commands: [
                "image build --tag=${APP}:12 --tag=${APP}:latest --platform=linux/amd64 --platform=linux/arm64 " +
                    "--cache-from=${APP}:cache --cache-to=type=registry,ref=${APP}:cache,mode=max --push .",
            ],
        ],
        'other-agent': [
            labels: ['linux'],
            commands: [
                'run --image=python:3.12 --source=. --command=python -m unittest -v',
                "image build --tag=${APP}:latest --push .",
            ],
        ],
        'sibling-run': [
            labels: ["${GIT},cpus=1,memory=1g,${RUN}"],
            commands: [
                'run --image=node:22 --source=. --command=npm ci --command=npm run lint',
                'run --image=python:3.12 --source=. --command=python -m unittest -v --memory=2g --timeout=10m',
                'run --image=python:3.12 --source=. --command=pip install build --command=python -m build ' +
                    '--artifact=dist/** --output=out',
                'run --image=python:3.12 --source=out --secret=TWINE_PASSWORD --env=TWINE_USERNAME=__token__ ' +
                    '--command=pip install twine --command=twine upload dist/*',
            ],
        ],
    ]

    ExamplesTest(String kind) {
        super(kind)
    }

    @Before
    void registerMoreSteps() {
        Declarative.register(this)
        env.BRANCH_NAME = 'main'
        credentials.putAll('npm-token': 'n', 'pypi-token': 'p', 'sibling-token': 's', 'sibling-id': 'i')
        binding.setVariable('scm', 'scm')
        helper.registerAllowedMethod('checkout', [String]) { String scm -> }
        for (step in ['archiveArtifacts', 'junit', 'stash', 'timeout', 'writeFile']) {
            helper.registerAllowedMethod(step, [Map]) { Map arguments -> }
        }
        for (step in ['unstash', 'unstable', 'junit']) {
            helper.registerAllowedMethod(step, [String]) { String text -> }
        }
        sibling.answer(metadata: JsonOutput.toJson('containerimage.digest': DIGEST))
    }

    @Test
    void 'every example runs and does what it says'() {
        List<String> names = new File('examples').listFiles().findAll { it.directory }*.name.sort()
        assert names == EXPECTED.keySet().sort()
        for (name in names) {
            labels.clear()
            helper.clearCallStack()
            int before = sibling.calls.size()
            runScript(copy(new File("examples/${name}/Jenkinsfile")))
            List<String> commands = sibling.calls.drop(before).collect { call ->
                call.findAll { !it.startsWith('--metadata-file=') }.join(' ')
            }
            assert commands == EXPECTED[name].commands
            assert labels.size() == EXPECTED[name].labels.size()
            [labels, EXPECTED[name].labels].transpose().each { label, pattern -> assert label ==~ pattern }
        }
    }

    @Test
    void 'the example of the README tells the digest'() {
        runScript(copy(new File('examples/build-and-push/Jenkinsfile')))
        assert echoed == ["Pushed registry.example/team/app@${DIGEST}"]
        assert shells*.script[0] == 'python -m unittest'
    }

    @Test
    void 'the token of an agent elsewhere is in the environment'() {
        runScript(copy(new File('examples/other-agent/Jenkinsfile')))
        assert sibling.environment.SIBLING_URL == 'https://sibling.example'
        assert sibling.environment.SIBLING_ID_TOKEN == 'i'
    }

    /** Jenkins refuses `siblingImage.build` in a declarative pipeline outside of `script`. */
    @Override
    protected Object sh(Map<String, Object> step) {
        boolean declarative = helper.methodCallCount('pipeline') > 0
        assert !(declarative && step.label?.startsWith('sibling image')) || Declarative.scripts > 0
        return super.sh(step)
    }

    private String copy(File example) {
        File file = File.createTempFile('Jenkinsfile', '', temporary.root)
        file.setText(example.getText('UTF-8'), 'UTF-8')
        return file.name
    }

}
