import sibling.Client
import sibling.RunOptions

/** See siblingRun.txt. */
def call(Map<String, Object> given = [:]) {
    Client client = new Client(this, 'siblingRun', given, UUID.randomUUID().toString())
    client.check(RunOptions.complaint(given))
    List<String> argv = RunOptions.argv(given)
    int status = client.run(argv)
    if (given.returnStatus) {
        return status
    }
    if (status != 0) {
        client.fail(argv, status)
    }
    return null
}
