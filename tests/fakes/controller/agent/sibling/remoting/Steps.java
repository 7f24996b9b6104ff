package sibling.remoting;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** The steps under way. Durable ones survive a lost connection, and are reported again on the next; others are killed. */
final class Steps {
    private final Map<String, Step> steps = new ConcurrentHashMap<>();

    Set<String> held() {
        return steps.keySet();
    }

    void run(Session session, Path workDir, Message order) {
        Step step = new Step(session, workDir, order);
        steps.put(step.id, step);
        Session.daemon(step::work).start();
    }

    void resume(Session session, Message order) {
        Step step = steps.get(order.subject());
        step.attach(session, Integer.parseInt(order.one("offset")));
    }

    /** The controller knows how it ended. */
    void forget(String id) {
        steps.remove(id);
    }

    void abort(String id) {
        Step step = steps.get(id);
        if (step != null) {
            Session.daemon(step::kill).start();
        }
    }

    void disconnected() {
        steps.values().stream().filter(step -> !step.durable).forEach(step -> {
            steps.remove(step.id);
            step.kill();
        });
    }

    private final class Step {
        private final String id;
        private final boolean durable;
        private final Path workspace;
        private final Message order;
        private final ByteArrayOutputStream output = new ByteArrayOutputStream();
        private Session session;
        private int sent;
        private Integer code;
        private volatile boolean killed;
        private volatile Process process;

        Step(Session session, Path workDir, Message order) {
            this.session = session;
            this.order = order;
            id = order.subject();
            durable = Boolean.parseBoolean(order.one("durable"));
            workspace = workDir.resolve(order.one("workspace"));
        }

        private void work() {
            int result;
            try {
                Files.createDirectories(workspace);
                result = switch (order.one("kind")) {
                    case "sh" -> shell();
                    case "write" -> write();
                    default -> 0;
                };
            } catch (IOException | InterruptedException error) {
                say(("java.io.IOException: " + error + "\n").getBytes());
                result = 1;
            }
            synchronized (this) {
                code = result;
                report();
            }
        }

        private int write() throws IOException {
            Files.write(workspace.resolve(order.one("file")), order.body());
            return 0;
        }

        /** The script is a file: of the machine's for a freestyle build, beside the workspace for a pipeline. */
        private int shell() throws IOException, InterruptedException {
            Path control = workspace.resolveSibling(workspace.getFileName() + "@tmp");
            if (durable) {
                Files.createDirectories(control);
            }
            Path script = durable
                    ? Files.createTempFile(control, "durable-", ".sh")
                    : Files.createTempFile("jenkins", ".sh");
            try {
                Files.write(script, order.body());
                // Of a freestyle build it is this very file; a pipeline looks for its shell on the PATH.
                return execute(durable ? "sh" : "/bin/sh", "-xe", script.toString());
            } finally {
                Files.deleteIfExists(script);
            }
        }

        private int execute(String... command) throws IOException, InterruptedException {
            ProcessBuilder builder = new ProcessBuilder(command).directory(workspace.toFile()).redirectErrorStream(true);
            for (String pair : order.all("env")) {
                String[] parts = pair.split("=", 2);
                builder.environment().put(parts[0], parts[1]);
            }
            Process started = builder.start();
            process = started;
            if (killed) {
                kill();
            }
            started.getOutputStream().close();
            byte[] buffer = new byte[64 * 1024];
            InputStream coming = started.getInputStream();
            for (int count; (count = coming.read(buffer)) >= 0; ) {
                say(Arrays.copyOf(buffer, count));
            }
            return started.waitFor();
        }

        private synchronized void say(byte[] data) {
            output.writeBytes(data);
            report();
        }

        private synchronized void attach(Session again, int offset) {
            session = again;
            sent = offset;
            report();
        }

        /** Send what is not sent yet; what is lost on the way is asked for by `resume`. */
        private void report() {
            byte[] all = output.toByteArray();
            if (sent < all.length) {
                session.send(new Message("out", id).with(Arrays.copyOfRange(all, sent, all.length)));
                sent = all.length;
            }
            if (code != null) {
                session.send(new Message("end", id).with("code", code));
            }
        }

        /** The whole tree: asked first, then made to. */
        private void kill() {
            killed = true;
            Process running = process;
            if (running == null) {
                return;
            }
            var tree = running.descendants().toList();
            tree.forEach(ProcessHandle::destroy);
            running.destroy();
            try {
                if (!running.waitFor(2, TimeUnit.SECONDS)) {
                    tree.forEach(ProcessHandle::destroyForcibly);
                    running.destroyForcibly();
                }
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
