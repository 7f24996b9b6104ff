package sibling

import com.lesfurets.jenkins.unit.BasePipelineTest
import com.lesfurets.jenkins.unit.PipelineTestHelper
import com.lesfurets.jenkins.unit.cps.PipelineTestHelperCPS
import com.lesfurets.jenkins.unit.global.lib.LibraryConfiguration
import com.lesfurets.jenkins.unit.global.lib.SourceRetriever
import hudson.AbortException
import org.junit.Before
import org.junit.Rule
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.junit.runners.Parameterized

/**
 * Pipelines that use the library, with steps that do what Jenkins' own do, on the files of a temporary agent.
 *
 * What the library gives to `sh` runs in the machine's shell, with a fake `sibling`; other shell text is only kept.
 * Everything runs twice: as plain Groovy, and transformed as Jenkins does it, where each step's state must be serialisable.
 */
@RunWith(Parameterized)
abstract class LibraryTest extends BasePipelineTest {

    @Rule
    public final TemporaryFolder temporary = new TemporaryFolder()

    protected final List<String> labels = []
    protected final List<Map<String, Object>> shells = []
    protected final List<String> echoed = []
    protected final Map<String, String> credentials = [:]
    final Map<String, String> env = [JOB_NAME: 'team/app', BUILD_NUMBER: '12', BUILD_TAG: 'jenkins-team-app-12']
    protected FakeSibling sibling
    protected File agent
    protected String output

    protected final Map<String, String> bound = [:]
    protected File folder

    LibraryTest(String kind) {
        helper = kind == 'cps' ? new PipelineTestHelperCPS() : new PipelineTestHelper()
    }

    @Parameterized.Parameters(name = '{0}')
    static List<Object[]> kinds() {
        return [['plain'] as Object[], ['cps'] as Object[]]
    }

    @Override
    @Before
    void setUp() {
        agent = temporary.newFolder('agent')
        folder = new File(agent, 'workspace')
        folder.mkdir()
        sibling = new FakeSibling(temporary.newFolder('fake'))
        scriptRoots = [temporary.root.path]
        scriptExtension = ''
        helper.registerSharedLibrary(LibraryConfiguration.library('sibling')
            .retriever({ name, version, target -> [new File('').absoluteFile.toURI().toURL()] } as SourceRetriever)
            .defaultVersion('main').targetPath('unused').allowOverride(true).implicit(false).build())
        super.setUp()
        binding.setVariable('env', env)
        registerSteps()
    }

    /** Runs the text as a Jenkinsfile; what its last line gives. */
    protected Object pipeline(String text) {
        // Under a name of its own, for the engine keeps what it has read.
        File file = File.createTempFile('Jenkinsfile', '', temporary.root)
        file.setText("@Library('sibling') _\n" + text, 'UTF-8')
        return runScript(file.name)
    }

    /** The same on an agent. */
    protected Object onAgent(String text) {
        return pipeline("node('any') {\n${text}\n}")
    }

    /** The message by which the pipeline ends. */
    protected String failureOf(Closure<?> work) {
        Exception error = thrownBy(work)
        assert error instanceof AbortException
        return error.message
    }

    /** What the pipeline ends by; null if it succeeds. */
    protected Exception thrownBy(Closure<?> work) {
        try {
            work()
        } catch (AbortException | InterruptedException error) {
            return error
        }
        return null
    }

    protected List<String> getArgv() {
        return sibling.calls.last()
    }

    protected void registerSteps() {
        helper.registerAllowedMethod('error', [String]) { String message -> throw new AbortException(message) }
        helper.registerAllowedMethod('echo', [String]) { String text -> echoed.add(text) }
        helper.registerAllowedMethod('node', [String, Closure]) { String label, Closure body -> onNode(label, body) }
        helper.registerAllowedMethod('sh', [Map]) { Map step -> sh(step) }
        helper.registerAllowedMethod('sh', [String]) { String script -> sh([script: script]) }
        helper.registerAllowedMethod('string', [Map]) { Map binding -> binding }
        helper.registerAllowedMethod('withCredentials', [List, Closure]) { List list, Closure body -> bind(list, body) }
        helper.registerAllowedMethod('fileExists', [String]) { String path -> file(path).exists() }
        helper.registerAllowedMethod('readFile', [Map]) { Map step -> file(step.file).getText(step.encoding) }
        helper.registerAllowedMethod('deleteDir', []) { -> folder.deleteDir() }
        helper.registerAllowedMethod('dir', [String, Closure]) { String path, Closure body -> within(path, body) }
    }

    protected File file(String path) {
        return new File(path).absolute ? new File(path) : new File(folder, path)
    }

    /** Makes them environment variables, which a pipeline also sees as its own. */
    void setVariables(Map<String, String> variables) {
        env.putAll(variables)
        variables.each { binding.setVariable(it.key, it.value) }
    }

    Object onNode(String label, Closure body) {
        labels.add(label)
        env.WORKSPACE_TMP = "${agent}/workspace@tmp".toString()
        try {
            return helper.callClosure(body)
        } finally {
            env.remove('WORKSPACE_TMP')
        }
    }

    protected Object within(String path, Closure body) {
        File before = folder
        folder = file(path)
        try {
            return helper.callClosure(body)
        } finally {
            folder = before
        }
    }

    protected Object bind(List<Map<String, String>> list, Closure body) {
        for (binding in list) {
            if (!credentials.containsKey(binding.credentialsId)) {
                throw new AbortException("Could not find credentials ${binding.credentialsId}")
            }
            bound[binding.variable] = credentials[binding.credentialsId]
        }
        try {
            return helper.callClosure(body)
        } finally {
            list.each { binding -> bound.remove(binding.variable) }
        }
    }

    protected Object sh(Map<String, Object> step) {
        shells.add(step)
        if (!step.label?.startsWith('sibling ')) {
            return step.returnStdout ? '' : step.returnStatus ? 0 : null
        }
        Map<String, String> variables = ['PATH', 'HOME'].collectEntries { [(it): System.getenv(it)] } + env + bound
        variables.PATH = "${sibling.bin}:${variables.PATH}".toString()
        Map<String, Object> ended = Shells.run(['sh', '-xe'], step.script.toString(), folder, variables)
        output = ended.output
        return ended.status
    }

}
