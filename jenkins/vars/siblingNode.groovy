import sibling.Labels

/** See siblingNode.txt. */
def call(Map<String, Object> given = [:], Closure body) {
    String complaint = Labels.complaint(given)
    if (complaint) {
        error(complaint)
    }
    String unique = UUID.randomUUID().toString().substring(24)
    return node(Labels.label(given, env.BUILD_TAG, unique), body)
}
