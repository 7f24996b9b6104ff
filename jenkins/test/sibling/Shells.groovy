package sibling

/** Shell text, run as Jenkins' `sh` runs it. */
class Shells {

    /** Those of this machine, each as the start of a command line. */
    static List<List<String>> getAll() {
        List<List<String>> known = [['sh'], ['dash'], ['bash'], ['busybox', 'sh'], ['ksh'], ['zsh', '--emulate', 'sh']]
        return known.findAll { which(it[0]) }
    }

    /** The path of a program of this machine, or null. */
    static String which(String program) {
        return System.getenv('PATH').split(':').collect { "${it}/${program}".toString() }.find { new File(it).canExecute() }
    }

    static Map<String, Object> run(List<String> shell, String script, File folder, Map<String, String> variables) {
        Process process = start(shell, script, folder, variables)
        String output = process.inputStream.getText('UTF-8')
        return [status: process.waitFor(), output: output]
    }

    static Process start(List<String> shell, String script, File folder, Map<String, String> variables) {
        File file = File.createTempFile('script', '.sh', folder.parentFile)
        file.setText(script, 'UTF-8')
        ProcessBuilder builder = new ProcessBuilder(shell + [file.path])
        builder.environment().clear()
        builder.environment().putAll(variables)
        builder.directory(folder)
        builder.redirectErrorStream(true)
        builder.redirectInput(new File('/dev/null'))
        return builder.start()
    }

}
