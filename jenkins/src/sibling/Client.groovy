package sibling

import com.cloudbees.groovy.cps.NonCPS

/** `sibling` on the agent that a step runs on: one object for one call of it. */
class Client implements Serializable {

    private static final long serialVersionUID = 1L

    /** The service's own socket in every container that it started. */
    private static final String SOCKET = '/run/sibling/api.sock'
    private static final int TAIL_LINES = 20

    /** Where the command may leave files for `read`, outside of the workspace. */
    final String folder
    private final Script steps
    private final String step
    private final Map<String, Object> given
    private String tail

    /** `unique` is a text that no other call on this agent has. */
    Client(Script steps, String step, Map<String, Object> given, String unique) {
        this.steps = steps
        this.step = step
        this.given = given
        this.folder = "${steps.env.WORKSPACE_TMP}/sibling/${unique}".toString()
    }

    /** Ends the build if there is a complaint about what was given, or no agent to run on. */
    void check(String complaint) {
        if (complaint) {
            steps.error(complaint)
        }
        if (!steps.env.WORKSPACE_TMP) {
            steps.error("${step}: this needs an agent; call it within node, siblingNode, or a stage that has one.")
        }
    }

    /** Runs the command; its exit code. What `sh` throws, as when the build is aborted, is let through. */
    int run(List<String> argv) {
        String script = prelude(argv) + steps.libraryResource('sibling/run.sh')
        List<Object> bindings = credentials()
        int status = bindings ? steps.withCredentials(bindings) { shell(argv, script) } : shell(argv, script)
        tail = status == 0 ? null : read('tail')
        return status
    }

    /** Ends the build for the exit code of the command that ran, with the end of its log. */
    void fail(List<String> argv, int status) {
        String end = tail ? ' The end of its log:\n' + lastLines(tail) : ''
        steps.error("${step}: `${name(argv)}` ended with exit code ${status}.${end}")
    }

    /** What the command left under that name in `folder`, which is then removed; null if it left nothing. */
    String read(String name) {
        String file = "${folder}/${name}"
        String content = steps.fileExists(file) ? steps.readFile(file: file, encoding: 'UTF-8') : null
        steps.dir(folder) {
            steps.deleteDir()
        }
        return content
    }

    private int shell(List<String> argv, String script) {
        return steps.sh(label: name(argv), returnStatus: true, script: script)
    }

    /** The binding of the token, if one was named: it reaches the command by its environment alone. */
    private List<Object> credentials() {
        boolean named = given.credentialsId || given.idTokenCredentialsId
        String token = named ? given.credentialsId : steps.env.SIBLING_CREDENTIALS_ID
        String idToken = named ? given.idTokenCredentialsId : steps.env.SIBLING_ID_TOKEN_CREDENTIALS_ID
        if (token) {
            return [steps.string(credentialsId: token, variable: 'SIBLING_TOKEN')]
        }
        return idToken ? [steps.string(credentialsId: idToken, variable: 'SIBLING_ID_TOKEN')] : []
    }

    /** What run.sh expects to be set. By itself Jenkins' shell prints all that it does, which nobody wants to read here. */
    @NonCPS
    private String prelude(List<String> argv) {
        String command = Shell.words(['sibling'] + argv)
        List<String> lines = [
            '{ set +ex; } 2>/dev/null',
            'folder=' + Shell.quote(folder),
            'client_folder=' + Shell.quote(folder.substring(0, folder.lastIndexOf('/')) + '/client'),
            'socket=' + (given.url ? '' : SOCKET),
            given.url ? 'export SIBLING_URL=' + Shell.quote(given.url.toString()) : '',
            'set -- ' + Shell.words(argv),
            "printf '%s\\n' " + Shell.quote('+ ' + command),
            '',
        ]
        return lines.join('\n')
    }

    /** The command without its options: what people call it. */
    @NonCPS
    private static String name(List<String> argv) {
        return argv[0] == 'image' ? "sibling image ${argv[1]}" : "sibling ${argv[0]}"
    }

    @NonCPS
    private static String lastLines(String log) {
        return log.readLines().takeRight(TAIL_LINES).join('\n')
    }

}
