package sibling.remoting;

import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** One connection: what is heard on it, in order, and what is said. */
final class Session implements WebSocket.Listener {
    /** The controller does not let us in, or is not there. */
    static final class Refused extends Exception {}

    private final Launcher launcher;
    private final Steps steps;
    private final JarCache jars;
    private final CountDownLatch ended = new CountDownLatch(1);
    private final ByteArrayOutputStream partial = new ByteArrayOutputStream();
    private final ExecutorService hearing = Executors.newSingleThreadExecutor(Session::daemon);
    private final Deque<Message> wanted = new ArrayDeque<>();  // jars that are on their way
    private boolean offered;
    private volatile WebSocket socket;

    Session(Launcher launcher, Steps steps, JarCache jars) {
        this.launcher = launcher;
        this.steps = steps;
        this.jars = jars;
    }

    void open(HttpClient client) throws Refused {
        try {
            socket = client.newWebSocketBuilder()
                    .header("Node-Name", launcher.name)
                    .header("Secret-Key", launcher.secret)
                    .header("X-Remoting-Capability", "simulated")
                    .buildAsync(URI.create(launcher.url.replaceFirst("^http", "ws") + "wsagents/"), this)
                    .join();
        } catch (CompletionException refused) {
            hearing.shutdown();
            throw new Refused();
        }
        Message hello = new Message("hello", "");
        steps.held().forEach(id -> hello.with("held", id));
        send(hello);
    }

    /** Asks now and then, since a connection that was reset is not always told to a listener. */
    void awaitEnd() throws InterruptedException {
        while (!ended.await(300, TimeUnit.MILLISECONDS)) {
            saying(() -> socket.sendPing(ByteBuffer.allocate(0)));
        }
        hearing.shutdown();
    }

    /** What is lost with the connection is asked for on the next one. */
    void send(Message message) {
        saying(() -> socket.sendBinary(ByteBuffer.wrap(message.encoded()), true));
    }

    private synchronized void saying(Supplier<CompletableFuture<WebSocket>> sent) {
        try {
            sent.get().join();
        } catch (CompletionException lost) {
            ended.countDown();
        }
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket from, ByteBuffer data, boolean last) {
        byte[] bytes = new byte[data.remaining()];
        data.get(bytes);
        partial.writeBytes(bytes);
        if (last) {
            Message message = Message.decoded(partial.toByteArray());
            partial.reset();
            hearing.execute(() -> hear(message));
        }
        from.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket from, int code, String reason) {
        ended.countDown();
        return null;
    }

    @Override
    public void onError(WebSocket from, Throwable error) {
        ended.countDown();
    }

    private void hear(Message message) {
        try {
            switch (message.verb()) {
                case "jar" -> offer(message);
                case "jars-end" -> {
                    offered = true;
                    beReady();
                }
                case "bytes" -> {
                    jars.keep(wanted.peek(), message.body());
                    wanted.pop();
                    beReady();
                }
                case "run" -> steps.run(this, launcher.workDir, message);
                case "resume" -> steps.resume(this, message);
                case "abort" -> steps.abort(message.subject());
                case "done" -> steps.forget(message.subject());
                default -> Launcher.log("WARNING", "What is " + message.verb() + "?");
            }
        } catch (Exception error) {
            Launcher.log("SEVERE", message.verb() + ": " + error);
            socket.abort();
            ended.countDown();
        }
    }

    private void offer(Message jar) throws Exception {
        if (jars.has(jar)) {
            return;
        }
        wanted.add(jar);
        send(new Message("need", jar.subject()));
    }

    private void beReady() throws Exception {
        if (offered && wanted.isEmpty()) {
            Launcher.log("INFO", "Connected");
            send(new Message("ready", ""));
        }
    }

    static Thread daemon(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    }
}
