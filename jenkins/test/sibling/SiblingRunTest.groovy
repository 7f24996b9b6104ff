package sibling

import hudson.AbortException
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.junit.Test

class SiblingRunTest extends LibraryTest {

    private static final String MINIMUM = "siblingRun(image: 'a', commands: 'true')"

    SiblingRunTest(String kind) {
        super(kind)
    }

    @Test
    void 'arguments become options in the order given'() {
        onAgent '''siblingRun(image: 'python:3.12', commands: ['pip install .', 'pytest'], source: '.', output: 'out',
            artifacts: ['dist/**', '*.xml'], env: [LEVEL: 3, HOME: null], labels: [team: 'a'], cpus: 0.5, memory: '2g',
            timeout: '10m', pids: 100, shmSize: '64m', user: 'nobody', workdir: 'app', pull: 'always', priority: -5,
            docker: 'scoped', concurrency: 'deploy=2', timestamps: true)'''
        assert argv == [
            'run', '--image=python:3.12', '--command=pip install .', '--command=pytest', '--source=.', '--output=out',
            '--artifact=dist/**', '--artifact=*.xml', '--env=LEVEL=3', '--env=HOME', '--label=team=a', '--cpus=0.5',
            '--memory=2g', '--timeout=10m', '--pids=100', '--shm-size=64m', '--user=nobody', '--workdir=app',
            '--pull=always', '--priority=-5', '--docker=scoped', '--concurrency=deploy=2', '--timestamps',
        ]
    }

    @Test
    void 'a program is given after two dashes'() {
        onAgent "siblingRun(argv: ['make', '--jobs=2', '-k'], image: 'a', git: 'https://git.example/x.git', ref: 'v1')"
        assert argv == ['run', '--image=a', '--git=https://git.example/x.git', '--ref=v1', '--', 'make', '--jobs=2', '-k']
    }

    @Test
    void 'what is null or false is left out'() {
        onAgent "siblingRun(image: 'a', commands: 'true', source: null, timestamps: false, env: [:], artifacts: [])"
        assert argv == ['run', '--image=a', '--command=true']
    }

    @Test
    void 'any text arrives as it is'() {
        List<String> texts = [
            'two  spaces', "it's", '"quoted"', '$HOME `id` $(id)', 'back\\slash\\n', 'two\nlines\n', '~',
            '!', ';&|<>#', '', "'", "''\\''", '-x', '%s %d', '\ttab', 'all *', 'Grüße, 世界 🎉',
        ]
        binding.setVariable('texts', texts)
        onAgent "siblingRun(image: 'a', commands: texts, env: [TEXT: texts.join('|')])"
        assert argv == ['run', '--image=a'] + texts.collect { '--command=' + it } + ['--env=TEXT=' + texts.join('|')]
    }

    @Test
    void 'texts with variables of the pipeline are texts'() {
        onAgent 'String tag = "3.12"; siblingRun(image: "python:${tag}", commands: ["echo ${tag}"], env: [TAG: "${tag}"])'
        assert argv == ['run', '--image=python:3.12', '--command=echo 3.12', '--env=TAG=3.12']
    }

    @Test
    void 'the command is shown once, and then its log'() {
        sibling.answer(output: 'from the build\n')
        onAgent "siblingRun(image: 'a', commands: 'echo \"it is\" \$X')"
        assert output == "+ sibling run --image=a '--command=echo \"it is\" \$X'\nfrom the build\n"
        assert shells*.label == ['sibling run']
    }

    @Test
    void 'a success gives nothing and leaves nothing'() {
        assert onAgent(MINIMUM) == null
        assert new File(agent, 'workspace@tmp/sibling').list().size() == 0
        assert new File(agent, 'workspace').list().size() == 0
    }

    @Test
    void 'a failure ends the build with its exit code and the end of its log'() {
        sibling.answer(status: 7, output: (1..50).collect { "line ${it} ä" }.join('\n') + '\n')
        String message = failureOf { onAgent MINIMUM }
        assert message == 'siblingRun: `sibling run` ended with exit code 7. The end of its log:\n' +
            (31..50).collect { "line ${it} ä" }.join('\n')
        assert output.contains('line 1 ä\n')
        assert new File(agent, 'workspace@tmp/sibling').list().size() == 0
    }

    @Test
    void 'a failure without a word says its exit code alone'() {
        sibling.answer(status: 125)
        assert failureOf { onAgent MINIMUM } == 'siblingRun: `sibling run` ended with exit code 125.'
    }

    @Test
    void 'the exit code is given if asked for'() {
        String asked = "siblingRun(image: 'a', commands: 'true', returnStatus: true)"
        assert onAgent(asked) == 0
        sibling.answer(status: 42, output: 'no\n')
        assert onAgent(asked) == 42
        assert new File(agent, 'workspace@tmp/sibling').list().size() == 0
    }

    @Test
    void 'an abort goes through as it is'() {
        helper.registerAllowedMethod('sh', [Map]) { Map step -> throw new FlowInterruptedException() }
        assert thrownBy { onAgent MINIMUM } instanceof FlowInterruptedException
        assert helper.methodCallCount('readFile') == 0
    }

    @Test
    void 'a lost agent goes through as it is'() {
        helper.registerAllowedMethod('sh', [Map]) { Map step -> throw new AbortException('the agent is gone') }
        assert failureOf { onAgent MINIMUM } == 'the agent is gone'
    }

    @Test
    void 'secrets are named and their values stay in the environment'() {
        credentials.'publish-token' = 'geheim'
        onAgent """withCredentials([string(credentialsId: 'publish-token', variable: 'TOKEN')]) {
            siblingRun(image: 'a', commands: './publish', secrets: ['TOKEN', 'KEY=@key.pem'])
        }"""
        assert argv == ['run', '--image=a', '--command=./publish', '--secret=TOKEN', '--secret=KEY=@key.pem']
        assert sibling.environment.TOKEN == 'geheim'
        assert !shells[0].script.contains('geheim')
        assert !output.contains('geheim')
    }

    @Test
    void 'a secret with its value is refused without telling it'() {
        for (secrets in ["['TOKEN=geheim']", "'TOKEN=geheim'", "[TOKEN: 'geheim']", "['two words geheim']"]) {
            String message = failureOf { onAgent "siblingRun(image: 'a', commands: 'true', secrets: ${secrets})" }
            assert message.startsWith('siblingRun: secrets ')
            assert !message.contains('geheim')
        }
        assert failureOf { onAgent "siblingRun(image: 'a', commands: 'true', gitPassword: 'ge-heim')" }.indexOf('ge-heim') < 0
        assert shells.empty
    }

    @Test
    void 'the token comes from the credentials that the call names'() {
        credentials.mine = 'sbl_mine'
        credentials.common = 'sbl_common'
        env.SIBLING_CREDENTIALS_ID = 'common'
        onAgent "siblingRun(image: 'a', commands: 'true', url: 'https://sibling.example', credentialsId: 'mine')"
        assert sibling.environment.SIBLING_TOKEN == 'sbl_mine'
        assert sibling.environment.SIBLING_URL == 'https://sibling.example'
        assert argv == ['run', '--image=a', '--command=true']
        assert !shells[0].script.contains('sbl_mine')
    }

    @Test
    void 'or from those that the environment names'() {
        credentials.common = 'sbl_common'
        env.SIBLING_CREDENTIALS_ID = 'common'
        onAgent MINIMUM
        assert sibling.environment.SIBLING_TOKEN == 'sbl_common'
    }

    @Test
    void 'an id token goes into its own variable'() {
        credentials.oidc = 'eyJ'
        credentials.common = 'sbl_common'
        env.SIBLING_CREDENTIALS_ID = 'common'
        onAgent "siblingRun(image: 'a', commands: 'true', idTokenCredentialsId: 'oidc')"
        assert sibling.environment.SIBLING_ID_TOKEN == 'eyJ'
        assert !sibling.environment.containsKey('SIBLING_TOKEN')
        env.remove('SIBLING_CREDENTIALS_ID')
        env.SIBLING_ID_TOKEN_CREDENTIALS_ID = 'oidc'
        onAgent MINIMUM
        assert sibling.environment.SIBLING_ID_TOKEN == 'eyJ'
    }

    @Test
    void 'without a name no credentials are asked for'() {
        onAgent MINIMUM
        assert helper.methodCallCount('withCredentials') == 0
    }

    @Test
    void 'wrong arguments are told before anything runs'() {
        Map<String, String> wrong = [
            "commands: 'true'": 'image is missing',
            "image: 'a'": 'give either commands',
            "image: 'a', commands: []": 'give either commands',
            "image: 'a', commands: 'b', argv: ['c']": 'give either commands',
            "image: 'a', argv: 'make check'": 'argv must be a list',
            "image: 'a', argv: ['make', null]": 'argv must be a list',
            "image: 'a', command: 'b'": 'there is no argument command. There are: argv, artifacts, commands,',
            "image: 'a', commands: [b: 1]": 'commands must be a list of texts, or one text.',
            "image: 'a', commands: ['b', null]": 'commands must be a list of texts, or one text.',
            "image: 'a', commands: 'b', env: ['A=1']": "env must be a map, such as [NAME: 'value'].",
            "image: 'a', commands: 'b', timestamps: 'no'": 'timestamps must be true or false.',
            "image: 'a', commands: 'b', returnStatus: 'no'": 'returnStatus must be true or false.',
            "image: 'a', commands: 'b', timeout: ['1m']": 'timeout must be a text.',
            "image: 'a', commands: 'b', url: true": 'url must be a text.',
            "image: 'a', commands: 'b', credentialsId: 'c', idTokenCredentialsId: 'd'": 'not both',
        ]
        for (pair in wrong) {
            String message = failureOf { onAgent "siblingRun(${pair.key})" }
            assert message.startsWith('siblingRun: ')
            assert message.contains(pair.value)
        }
        assert shells.empty
    }

    @Test
    void 'outside of an agent it says so'() {
        assert failureOf { pipeline MINIMUM }.startsWith('siblingRun: this needs an agent;')
    }

    @Test
    void 'steps of parallel branches do not meet'() {
        sibling.answer(status: 1, output: 'no\n')
        onAgent """parallel(a: { siblingRun(image: 'a', commands: 'true', returnStatus: true) },
                            b: { siblingRun(image: 'b', commands: 'true', returnStatus: true) })"""
        List<String> folders = shells.collect { it.script.readLines().find { line -> line.startsWith('folder=') } }
        assert folders.unique().size() == 2
    }

}
