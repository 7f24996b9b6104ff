import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;

/** In place of the agent program: says what that would find. Its node's name is what it does then. */
public class Probe {
    private static final String SCRIPT =
            "echo child $1; id -u; nohup sh -c 'echo nohup $0' ran; ps >/dev/null && echo ps; env";

    public static void main(String[] arguments) throws Exception {
        List<String> given = List.of(arguments);
        given.forEach(argument -> System.out.println("argument " + argument));
        System.getenv().forEach((name, value) -> System.out.println("variable " + name + "=" + value));
        for (String name : List.of("java.home", "user.home", "sun.jnu.encoding", "file.encoding")) {
            System.out.println("property " + name + "=" + System.getProperty(name));
        }
        Path secret = Path.of(given.get(given.indexOf("-secret") + 1).substring(1));
        String reversed = new StringBuilder(Files.readString(secret).strip()).reverse().toString();
        System.out.println("secret " + reversed + " " + PosixFilePermissions.toString(Files.getPosixFilePermissions(secret)));
        Files.writeString(Path.of("ä€"), "");
        System.out.println("files " + String.join(" ", new File(".").list()));
        Process child = new ProcessBuilder("sh", "-c", SCRIPT, "sh", "ä€").redirectErrorStream(true).start();
        System.out.print(new String(child.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
        System.out.println("code " + child.waitFor());
        goOn(given.get(given.indexOf("-name") + 1));
    }

    private static void goOn(String name) throws Exception {
        if (name.equals("stays")) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("ending")));
            System.out.println("ready");
            Thread.sleep(Long.MAX_VALUE);
        }
        if (name.equals("dies")) {
            new ProcessBuilder("sh", "-c", "kill -9 $PPID").start();
            Thread.sleep(Long.MAX_VALUE);
        }
    }
}
