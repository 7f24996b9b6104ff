package sibling.remoting;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;

/** A stand-in for Jenkins' agent: the same options, the same lines on stderr, the same patience with a lost controller. */
public final class Launcher {
    /** Between attempts; the first are shorter than remoting's, so that tests need not wait. */
    private static final int[] PAUSES_MILLIS = {100, 300, 700, 1000, 3000, 7000, 10000};

    String url;
    String name;
    String secret;
    Path workDir;
    private Path jarCache;
    private String internalDir = "remoting";
    private boolean webSocket;
    private boolean reconnects = true;

    private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] arguments) throws Exception {
        Launcher launcher = new Launcher();
        launcher.read(new ArrayDeque<>(List.of(arguments)));
        launcher.run();
    }

    private void read(Deque<String> options) throws IOException {
        while (!options.isEmpty()) {
            String option = options.pop();
            switch (option) {
                case "-url" -> url = options.pop().replaceAll("/+$", "") + "/";
                case "-name" -> name = options.pop();
                case "-secret" -> secret = secretOf(options.pop());
                case "-workDir" -> workDir = Path.of(options.pop()).toAbsolutePath();
                case "-internalDir" -> internalDir = options.pop();
                case "-jar-cache" -> jarCache = Path.of(options.pop()).toAbsolutePath();
                case "-webSocket" -> webSocket = true;
                case "-noReconnect" -> reconnects = false;
                default -> fail("\"" + option + "\" is not a valid option");
            }
        }
        if (url == null || name == null || secret == null || workDir == null || !webSocket) {
            fail("-url, -name, -secret, -webSocket and -workDir are required");
        }
        Path internal = workDir.resolve(internalDir);
        Files.createDirectories(internal);
        if (jarCache == null) {
            jarCache = internal.resolve("jarCache");
        }
        log("INFO", "Using " + internal + " as a remoting work directory");
    }

    private static String secretOf(String given) throws IOException {
        return given.startsWith("@") ? Files.readString(Path.of(given.substring(1))).trim() : given;
    }

    private static void fail(String message) {
        System.err.println(message);
        System.exit(1);
    }

    /** Connect for as long as it takes, and again whenever the connection was lost. */
    private void run() throws Exception {
        log("INFO", "Setting up agent: " + name);
        Steps steps = new Steps();
        do {
            awaitLoginPage();
            Session session = connect(steps);
            session.awaitEnd();
            steps.disconnected();
            log("INFO", "Terminated");
        } while (reconnects);
        System.exit(0);
    }

    private Session connect(Steps steps) throws Exception {
        for (int attempt = 0; ; attempt++) {
            try {
                Session session = new Session(this, steps, new JarCache(jarCache));
                session.open(client);
                log("INFO", "WebSocket connection open");
                return session;
            } catch (Session.Refused refused) {
                log("INFO", "Failed to connect: Handshake error.");
                pause(attempt);
            }
        }
    }

    private void awaitLoginPage() throws Exception {
        for (int attempt = 0; !isThere(); attempt++) {
            log("INFO", url + "login is not ready");
            pause(attempt);
        }
    }

    private boolean isThere() throws InterruptedException {
        try {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + "login")).build();
            return client.send(request, HttpResponse.BodyHandlers.discarding()).statusCode() == 200;
        } catch (IOException unreachable) {
            return false;
        }
    }

    private static void pause(int attempt) throws InterruptedException {
        int millis = PAUSES_MILLIS[Math.min(attempt, PAUSES_MILLIS.length - 1)];
        log("INFO", "Waiting " + millis / 1000.0 + " seconds before retry");
        Thread.sleep(millis);
    }

    static void log(String level, String message) {
        System.err.println(level + ": " + message);
    }
}
