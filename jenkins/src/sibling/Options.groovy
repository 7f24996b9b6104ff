package sibling

import com.cloudbees.groovy.cps.NonCPS

/**
 * What a step may be given by name, and the options of the command line that are made of it.
 *
 * An argument that is null counts as not given. Nothing here throws: the sandbox allows no fitting exception, and a
 * step ends by `error` anyway.
 */
class Options implements Serializable {

    /** Arguments of every step that talks to the service; they are not options of the command. */
    static final List<String> SERVICE = ['url', 'credentialsId', 'idTokenCredentialsId']

    private static final long serialVersionUID = 1L

    private final String step
    private final Map<String, String> texts
    private final Map<String, String> flags
    private final Map<String, String> lists
    private final Map<String, String> maps

    /**
     * Each of `kinds` maps a kind to names and their options: `texts` take text or a number, `flags` true or false,
     * `lists` a list or a single text, `maps` a map. An option that is empty the step makes by itself.
     */
    Options(String step, Map<String, Map<String, String>> kinds) {
        this.step = step
        this.texts = kinds.texts
        this.flags = kinds.flags
        this.lists = kinds.lists
        this.maps = kinds.maps
    }

    /** What is wrong with what was given, as a sentence, or null. Values are never told: they may be secrets. */
    @NonCPS
    String complaint(Map<String, Object> given) {
        List<String> known = SERVICE + texts.keySet() + flags.keySet() + lists.keySet() + maps.keySet()
        for (entry in given) {
            String name = entry.key
            Object value = entry.value
            if (!known.contains(name)) {
                return "${step}: there is no argument ${name}. There are: ${known.sort().join(', ')}."
            }
            String wanted = value == null ? null : wrong(name, value)
            if (wanted) {
                return "${step}: ${name} must be ${wanted}."
            }
        }
        return given.credentialsId && given.idTokenCredentialsId
            ? "${step}: give credentialsId or idTokenCredentialsId, not both." : null
    }

    /** The options of the command line, in the order in which they were given. */
    @NonCPS
    List<String> argv(Map<String, Object> given) {
        List<String> argv = []
        for (entry in given) {
            String name = entry.key
            Object value = entry.value
            if (value == null) {
                continue
            }
            if (texts[name]) {
                argv.add("${texts[name]}=${value}".toString())
            } else if (flags[name] && value) {
                argv.add(flags[name])
            } else if (lists[name]) {
                for (item in listed(value)) {
                    argv.add("${lists[name]}=${item}".toString())
                }
            } else if (maps[name]) {
                for (pair in value) {
                    argv.add(pair.value == null ? "${maps[name]}=${pair.key}".toString()
                        : "${maps[name]}=${pair.key}=${pair.value}".toString())
                }
            }
        }
        return argv
    }

    /** A list, or the one text that stands for a list of one. */
    @NonCPS
    static List<String> listed(Object value) {
        List<String> listed = []
        for (item in (value instanceof List ? value : [value])) {
            listed.add(item.toString())
        }
        return listed
    }

    @NonCPS
    private String wrong(String name, Object value) {
        if (flags.containsKey(name)) {
            return value instanceof Boolean ? null : 'true or false'
        }
        if (maps.containsKey(name)) {
            return value instanceof Map ? null : 'a map, such as [NAME: \'value\']'
        }
        if (lists.containsKey(name)) {
            return value instanceof CharSequence || (value instanceof List && !value.contains(null)) ? null
                : 'a list of texts, or one text'
        }
        return value instanceof CharSequence || value instanceof Number ? null : 'a text'
    }

}
