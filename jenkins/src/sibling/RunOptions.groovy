package sibling

import com.cloudbees.groovy.cps.NonCPS

/** The arguments of `siblingRun`. */
class RunOptions implements Serializable {

    private static final long serialVersionUID = 1L

    private static final Options OPTIONS = new Options('siblingRun', [
        texts: [
            image: '--image', source: '--source', git: '--git', ref: '--ref', gitUsername: '--git-username',
            gitPassword: '--git-password', output: '--output', user: '--user', workdir: '--workdir',
            timeout: '--timeout', cpus: '--cpus', memory: '--memory', pids: '--pids', shmSize: '--shm-size',
            docker: '--docker', pull: '--pull', priority: '--priority', concurrency: '--concurrency',
        ],
        flags: [timestamps: '--timestamps', returnStatus: ''],
        lists: [commands: '--command', secrets: '--secret', artifacts: '--artifact', argv: ''],
        maps: [env: '--env', labels: '--label'],
    ])

    /** What is wrong, as a sentence, or null. */
    @NonCPS
    static String complaint(Map<String, Object> given) {
        String complaint = OPTIONS.complaint(given)
        if (complaint) {
            return complaint
        }
        if (!given.image) {
            return "siblingRun: image is missing, such as 'python:3.12'."
        }
        if (!given.commands == !given.argv) {
            return 'siblingRun: give either commands (shell lines) or argv (a program and its arguments).'
        }
        if (given.argv && !(given.argv instanceof List)) {
            return "siblingRun: argv must be a list, such as ['make', 'check']."
        }
        if (given.gitPassword && !(given.gitPassword ==~ '[A-Za-z_][A-Za-z0-9_]*|@.+')) {
            return "siblingRun: gitPassword is the name of an environment variable, such as 'GIT_PASSWORD', or '@FILE'."
        }
        for (secret in Options.listed(given.secrets ?: [])) {
            if (!(secret ==~ '[A-Za-z_][A-Za-z0-9_]*(=@.+)?')) {
                return "siblingRun: secrets holds names of environment variables, such as 'TOKEN', or 'NAME=@FILE'; " +
                    'never a value, which everybody on the agent could see.'
            }
        }
        return null
    }

    /** The command line after `sibling`. */
    @NonCPS
    static List<String> argv(Map<String, Object> given) {
        return ['run'] + OPTIONS.argv(given) + (given.argv ? ['--'] + Options.listed(given.argv) : [])
    }

}
