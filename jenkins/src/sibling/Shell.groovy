package sibling

import com.cloudbees.groovy.cps.NonCPS

/** Text for a POSIX shell. */
class Shell implements Serializable {

    private static final long serialVersionUID = 1L

    /** The words as a shell reads them back: each arrives as it is, whatever it holds. */
    @NonCPS
    static String words(List<String> words) {
        List<String> quoted = []
        for (String word in words) {
            quoted.add(quote(word))
        }
        return quoted.join(' ')
    }

    /** One word. Between single quotes only the single quote itself means anything (POSIX, Shell Command Language, 2.2.2). */
    @NonCPS
    static String quote(String word) {
        return word ==~ '[A-Za-z0-9@%+=:,./_-]+' ? word : "'" + word.replace("'", "'\\''") + "'"
    }

}
