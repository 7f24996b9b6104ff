package sibling

import com.sun.net.httpserver.HttpHandler
import com.sun.net.httpserver.HttpServer
import java.nio.channels.ServerSocketChannel
import java.util.concurrent.TimeUnit
import org.junit.After
import org.junit.Before
import org.junit.Test
import org.junit.runners.Parameterized

/** resources/sibling/run.sh, as the library sends it to an agent. */
class RunScriptTest extends LibraryTest {

    private static final String SOCKET = '/run/sibling/api.sock'
    private static final List<String> TOOLS = ['cat', 'mkdir', 'mkfifo', 'mv', 'rm', 'rmdir', 'tail', 'tee']
    /** A client that leaves what it was called with, and whose token. */
    private static final String PYTHON_CLIENT = '''\
        |import json, os, sys
        |print(json.dumps([sys.argv[1:], os.environ.get("SIBLING_TOKEN")]))
        |'''.stripMargin()
    /** A client whose build is silent, and is cancelled when it is ended. */
    private static final String SILENT_CLIENT = '''\
        |#!/usr/bin/env python3
        |import os, signal, sys
        |def cancel(*_):
        |    open(os.environ["CANCELLED"], "w").close()
        |    sys.exit(130)
        |signal.signal(signal.SIGTERM, cancel)
        |os.write(1, b"working\\n")
        |while True:
        |    signal.pause()
        |'''.stripMargin()

    private HttpServer server
    private int fetched
    private int answer = 200

    RunScriptTest(String kind) {
        super(kind)
    }

    /** The script is the same however the library made it. */
    @Parameterized.Parameters(name = '{0}')
    static List<Object[]> kinds() {
        return [['plain'] as Object[]]
    }

    @Before
    void startServer() {
        server = HttpServer.create(new InetSocketAddress(InetAddress.loopbackAddress, 0), 0)
        server.createContext('/cli/sibling', { exchange ->
            fetched++
            byte[] content = PYTHON_CLIENT.bytes
            exchange.sendResponseHeaders(answer, content.length)
            exchange.responseBody.withStream { it.write(content) }
        } as HttpHandler)
        server.start()
    }

    @After
    void stopServer() {
        server.stop(0)
    }

    @Test
    void 'it does the same in every shell of this machine'() {
        assert Shells.all
        sibling.answer(status: 3, output: 'out\n')
        for (shell in Shells.all) {
            Map ended = Shells.run(shell, script("commands: ['it is', '\$X \"y\" ä']"), folder, variables())
            assert ended == [status: 3, output: "+ sibling run --image=a '--command=it is' '--command=\$X \"y\" ä'\nout\n"]
            assert argv == ['run', '--image=a', '--command=it is', '--command=$X "y" ä']
        }
    }

    @Test
    void 'a log of any length is shown whole and kept in little'() {
        String line = 'x' * 99
        sibling.answer(status: 1, output: "${line}\n" * 50_000)
        Map ended = Shells.run(['sh'], script(), folder, variables())
        assert ended.output.count(line) == 50_000
        File tail = new File(agent, 'workspace@tmp/sibling').listFiles().findResult { new File(it, 'tail') }
        assert tail.length() == 8192
    }

    @Test
    void 'what the command prints at once is seen at once'() {
        File go = new File(agent, 'go')
        fake("#!/bin/sh\necho first; until [ -e ${go} ]; do :; done; echo last\n")
        Process process = Shells.start(['sh'], script(), folder, variables())
        BufferedReader reader = process.inputStream.newReader('UTF-8')
        assert reader.readLine().startsWith('+ sibling')
        assert reader.readLine() == 'first'
        go.createNewFile()
        assert reader.readLine() == 'last'
        assert process.waitFor() == 0
    }

    @Test
    void 'the client is fetched once for each build with what is there'() {
        int fetches = 0
        for (tool in ['curl', 'wget', 'python3'].findAll { Shells.which(it) }) {
            Map<String, String> variables = otherAgent([tool, 'python3'])
            variables.BUILD_TAG = "build-${tool}".toString()
            String expected = '[["run", "--image=a", "--command=true"], "sbl_token"]\n'
            2.times {
                Map ended = Shells.run(['sh'], script(), folder, variables)
                assert ended == [status: 0, output: '+ sibling run --image=a --command=true\n' + expected]
            }
            assert fetched == ++fetches
        }
        assert new File(agent, 'workspace@tmp/sibling/client').list().sort() == ['of', 'sibling.pyz']
        assert new File(agent, 'workspace@tmp/sibling').list() as List == ['client']
    }

    @Test
    void 'an agent without what it needs is told what that is'() {
        Map<String, String> variables = otherAgent(['python3'])
        Map ended = Shells.run(['sh'], script(), folder, variables - [SIBLING_URL: variables.SIBLING_URL])
        assert ended.status == 125
        assert ended.output.contains('has no `sibling`. Set SIBLING_URL')
        ended = Shells.run(['sh'], script(), folder, otherAgent([]))
        assert ended.status == 125
        assert ended.output.contains('has no python3')
        answer = 404
        ended = Shells.run(['sh'], script(), folder, variables)
        assert ended.status == 125
        assert ended.output.contains("[sibling] The client could not be fetched from ${variables.SIBLING_URL}/cli/sibling.")
    }

    @Test
    void 'in a container of Sibling its own service is used'() {
        File socket = new File(temporary.root, 'api.sock')
        withSocket(socket) {
            Map<String, String> variables = variables() + [
                SIBLING_URL: 'https://other.example', SIBLING_TOKEN: 'sbl_other', SIBLING_TOKEN_FILE: 'f',
                SIBLING_ID_TOKEN: 'eyJ', SIBLING_ID_TOKEN_FILE: 'g',
            ]
            Shells.run(['sh'], script().replace(SOCKET, socket.path), folder, variables)
            assert !sibling.environment.keySet().any { it.startsWith('SIBLING_') }
        }
    }

    @Test
    void 'unless the call names another'() {
        String named = script("url: 'https://named.example', commands: 'true'")
        assert !named.contains(SOCKET)
        Shells.run(['sh'], named, folder, variables() + [SIBLING_URL: 'https://other.example', SIBLING_TOKEN: 'sbl_other'])
        assert sibling.environment.SIBLING_URL == 'https://named.example'
        assert sibling.environment.SIBLING_TOKEN == 'sbl_other'
    }

    @Test
    void 'in whatever order Jenkins ends its processes, the build is cancelled and nothing stays'() {
        fake(SILENT_CLIENT)
        for (shell in Shells.all) {
            for (first in ['tee', 'tail', 'python3']) {
                File cancelled = new File(agent, "cancelled-${shell[0]}-${first}")
                Process process = Shells.start(shell, script(), folder, variables() + [CANCELLED: cancelled.path])
                process.inputStream.newReader().with { reader -> 2.times { assert reader.readLine() } }
                killRecursively(process.toHandle(), first)
                assert cancelled.exists()
            }
        }
    }

    /** The script of a call of `siblingRun`. */
    private String script(String arguments = "commands: 'true'") {
        Closure<Integer> kept = { Map step -> shells.add(step); 0 }
        helper.registerAllowedMethod('sh', [Map], kept)
        onAgent "siblingRun(image: 'a', ${arguments})"
        return shells.last().script
    }

    private void fake(String program) {
        new File(sibling.bin, 'sibling').text = program
    }

    private Map<String, String> variables() {
        return [PATH: "${sibling.bin}:${System.getenv('PATH')}".toString(), BUILD_TAG: 'jenkins-app-1']
    }

    /** The variables of an agent with nothing but these programs, and those of any Unix. */
    private Map<String, String> otherAgent(List<String> programs) {
        File bin = temporary.newFolder()
        for (program in (TOOLS + programs).unique()) {
            // No link: a program may need others to find itself.
            File wrapper = new File(bin, program)
            wrapper.text = "#!/bin/sh\nPATH='${System.getenv('PATH')}' exec '${Shells.which(program)}' \"\$@\"\n"
            wrapper.executable = true
        }
        String address = "http://${server.address.address.hostAddress}:${server.address.port}".toString()
        return [PATH: bin.path, BUILD_TAG: 'jenkins-app-1', SIBLING_URL: address, SIBLING_TOKEN: 'sbl_token']
    }

    private static void withSocket(File file, Closure<?> work) {
        ServerSocketChannel channel = ServerSocketChannel.open(StandardProtocolFamily.UNIX)
        channel.bind(UnixDomainSocketAddress.of(file.path))
        try {
            work()
        } finally {
            channel.close()
        }
    }

    /** As hudson.util.ProcessTree does it: children first, and each until it is gone, which a zombie is not. */
    private static void killRecursively(ProcessHandle process, String first) {
        List<ProcessHandle> children = process.children().collect { it }
        for (child in children.sort { name(it) == first ? 0 : 1 }) {
            killRecursively(child, first)
        }
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20)
        process.destroy()
        while (new File("/proc/${process.pid()}").exists()) {
            assert System.nanoTime() < deadline : "${name(process)} is not gone"
            Thread.sleep(5)
        }
    }

    private static String name(ProcessHandle process) {
        String program = new File("/proc/${process.pid()}/cmdline").text.split('\u0000')[0]
        return program.split('/').last()
    }

}
