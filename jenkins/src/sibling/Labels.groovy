package sibling

import com.cloudbees.groovy.cps.NonCPS

/** The label that `siblingNode` asks Jenkins' queue for; docs/jenkins.md has its grammar. */
class Labels implements Serializable {

    private static final long serialVersionUID = 1L

    private static final List<String> KNOWN = ['cpus', 'docker', 'image', 'memory', 'template']
    // What Jenkins' label expressions and our own commas leave.
    private static final String LABEL_TEXT = '[^\\s"\'&|!<>(),\\\\]+'
    private static final int LONGEST_TAG = 60

    /** What is wrong with what was given, as a sentence, or null. */
    @NonCPS
    static String complaint(Map<String, Object> given) {
        for (entry in given) {
            if (!KNOWN.contains(entry.key)) {
                return "siblingNode: there is no argument ${entry.key}. There are: ${KNOWN.join(', ')}."
            }
            if (entry.value != null && !(entry.value instanceof CharSequence || entry.value instanceof Number)) {
                return "siblingNode: ${entry.key} must be a text" + (entry.key == 'cpus' ? ' or a number.' : '.')
            }
        }
        if (!given.image == !given.template) {
            return "siblingNode: give either image, such as 'python:3.12', or template, the label of a template."
        }
        if (given.template) {
            return given.cpus == null && given.memory == null && given.docker == null ? null
                : 'siblingNode: cpus, memory and docker belong to image; a template has its own.'
        }
        for (name in ['image', 'cpus', 'memory', 'docker']) {
            if (given[name] != null && !(given[name].toString() ==~ LABEL_TEXT)) {
                return "siblingNode: ${name}: '${given[name]}' cannot stand in a label, which holds no spaces, quotes, " +
                    'commas, and none of & | ! < > ( ) \\.'
            }
        }
        return null
    }

    /** The label; one for an image is this call's own by `unique`, told apart for people by the build's tag. */
    @NonCPS
    static String label(Map<String, Object> given, String buildTag, String unique) {
        if (given.template) {
            return given.template.toString()
        }
        List<String> parts = ["image=${given.image}".toString()]
        for (name in ['cpus', 'memory', 'docker']) {
            if (given[name] != null) {
                parts.add("${name}=${given[name]}".toString())
            }
        }
        String tag = (buildTag ?: 'build').replaceAll('[^A-Za-z0-9._-]+', '-')
        // Its end has the build's number.
        tag = tag.substring(Math.max(0, tag.length() - LONGEST_TAG))
        parts.add("run=${tag}-${unique}".toString())
        return parts.join(',')
    }

}
