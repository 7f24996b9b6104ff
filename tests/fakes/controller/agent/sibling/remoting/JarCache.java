package sibling.remoting;

import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.util.HexFormat;

/** The jars of a controller, kept under the names that remoting gives them, and shared by whoever has the folder. */
final class JarCache {
    private final Path folder;

    JarCache(Path folder) {
        this.folder = folder;
    }

    /** If the jar is here, a class of it is loaded. */
    boolean has(Message jar) throws Exception {
        Path file = fileOf(jar);
        if (!Files.exists(file)) {
            return false;
        }
        load(file, jar.one("class"));
        return true;
    }

    void keep(Message jar, byte[] content) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(content);
        if (!HexFormat.of().formatHex(digest).equals(jar.subject())) {
            throw new IOException("the jar is another one");
        }
        Path file = fileOf(jar);
        Files.createDirectories(file.getParent());
        Path coming = Files.createTempFile(file.getParent(), file.getFileName().toString(), ".tmp");
        Files.write(coming, content);
        Files.move(coming, file, StandardCopyOption.ATOMIC_MOVE);
        load(file, jar.one("class"));
    }

    private static void load(Path file, String className) throws Exception {
        try (URLClassLoader loader = new URLClassLoader(new URL[] {file.toUri().toURL()})) {
            loader.loadClass(className).getDeclaredConstructor().newInstance();
        }
    }

    private Path fileOf(Message jar) {
        ByteBuffer words = ByteBuffer.wrap(HexFormat.of().parseHex(jar.subject()));
        long first = words.getLong(0) ^ words.getLong(16);
        long second = words.getLong(8) ^ words.getLong(24);
        return folder.resolve(String.format("%02X/%014X%016X.jar", first >>> 56, first & 0x00FFFFFFFFFFFFFFL, second));
    }
}
