package sibling

/**
 * A `pipeline` or a `stage` of the declarative syntax, as far as the examples use it, on the steps of a LibraryTest.
 *
 * It first gathers its sections and then does them in Jenkins' order, whatever theirs is. A pipeline's closures refer to it,
 * and their state must be serialisable.
 */
class Declarative implements Serializable {

    private static final long serialVersionUID = 1L

    /** How many `script` blocks are open; outside of them Jenkins takes no calls on objects. */
    static int scripts

    private final transient LibraryTest test
    private final Map<String, Closure> stages = [:]
    private final Map<String, Closure> sections = [:]
    private final Map<String, List<String>> axes = [:]
    private String axis
    private boolean wanted = true

    Declarative(LibraryTest test) {
        this.test = test
    }

    /** Makes `pipeline` and `script` steps of the test. */
    static void register(LibraryTest test) {
        scripts = 0
        ['any', 'none'].each { test.binding.setVariable(it, it) }
        test.helper.registerAllowedMethod('pipeline', [Closure]) { Closure body -> new Declarative(test).perform(body) }
        test.helper.registerAllowedMethod('script', [Closure]) { Closure body ->
            scripts++
            test.helper.callClosure(body)
            scripts--
        }
    }

    void perform(Closure body) {
        gather(body)
        if (sections.when) {
            gather(sections.when)
        }
        for (Map<String, String> cell in (wanted ? cells() : [])) {
            test.setVariables(cell)
            Object label = sections.agent ? gather(sections.agent) : null
            label && label != 'none' ? test.onNode(label.toString()) { work() } : work()
        }
    }

    // What may stand in a pipeline or a stage.

    void agent(Closure body) {
        sections.agent = body
    }

    void agent(String which) {
        sections.agent = { -> which }
    }

    void environment(Closure body) {
        sections.environment = body
    }

    void options(Closure body) {
        sections.options = body
    }

    void when(Closure body) {
        sections.when = body
    }

    void steps(Closure body) {
        sections.steps = body
    }

    void post(Closure body) {
        sections.post = body
    }

    void stages(Closure body) {
        gather(body)
    }

    void parallel(Closure body) {
        gather(body)
    }

    void matrix(Closure body) {
        gather(body)
    }

    void stage(String name, Closure body) {
        stages[name] = { -> new Declarative(test).perform(body) }
    }

    // What may stand in those.

    String label(String text) {
        return text
    }

    void axes(Closure body) {
        gather(body)
    }

    void axis(Closure body) {
        gather(body)
    }

    void name(String name) {
        axis = name
    }

    void values(String... values) {
        axes[axis] = values as List
    }

    void branch(String name) {
        wanted = test.env.BRANCH_NAME == name
    }

    void always(Closure body) {
        test.helper.callClosure(body)
    }

    private void work() {
        if (sections.environment) {
            gather(sections.environment, new Variables(test))
        }
        if (sections.steps) {
            test.helper.callClosure(sections.steps)
        }
        stages.values().each { it() }
        if (sections.post) {
            gather(sections.post)
        }
    }

    private Object gather(Closure body, Object delegate = this) {
        body.delegate = delegate
        body.resolveStrategy = Closure.DELEGATE_FIRST
        return test.helper.callClosure(body)
    }

    /** One for each combination of the axes; one without any if there are none. */
    private List<Map<String, String>> cells() {
        return axes.inject([[:]]) { cells, axis ->
            cells.collectMany { cell -> axis.value.collect { cell + [(axis.key): it] } }
        }
    }

    /** Takes the assignments of `environment`. */
    private static class Variables implements Serializable {

        private static final long serialVersionUID = 1L

        private final transient LibraryTest test

        Variables(LibraryTest test) {
            this.test = test
        }

        void setProperty(String name, Object value) {
            test.setVariables([(name): value.toString()])
        }

    }

}
