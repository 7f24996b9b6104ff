import sibling.Client
import sibling.ImageOptions
import sibling.Metadata

/** Builds an image; the digest of what was pushed, else the image's id. See siblingImage.txt. */
String build(Map<String, Object> given = [:]) {
    Client client = clientOf('siblingImage.build', given)
    client.check(ImageOptions.complaintOfBuild(given))
    return digest(client, ImageOptions.argvOfBuild(given, "${client.folder}/metadata"))
}

/** Pushes an image that was built before; its digest. See siblingImage.txt. */
String push(Map<String, Object> given = [:]) {
    Client client = clientOf('siblingImage.push', given)
    client.check(ImageOptions.complaintOfPush(given))
    return digest(client, ImageOptions.argvOfPush(given, "${client.folder}/metadata"))
}

private Client clientOf(String step, Map<String, Object> given) {
    return new Client(this, step, given, UUID.randomUUID().toString())
}

private String digest(Client client, List<String> argv) {
    int status = client.run(argv)
    if (status != 0) {
        client.fail(argv, status)
    }
    return Metadata.digest(client.read('metadata'))
}
