package sibling.remoting;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A verb with its subject, further lines of a name and a value, and bytes after an empty line. */
record Message(String verb, String subject, List<String[]> fields, byte[] body) {
    Message(String verb, String subject) {
        this(verb, subject, new ArrayList<>(), new byte[0]);
    }

    Message with(String name, Object value) {
        fields.add(new String[] {name, value.toString()});
        return this;
    }

    Message with(byte[] bytes) {
        return new Message(verb, subject, fields, bytes);
    }

    List<String> all(String name) {
        return fields.stream().filter(field -> field[0].equals(name)).map(field -> field[1]).toList();
    }

    String one(String name) {
        return all(name).get(0);
    }

    byte[] encoded() {
        StringBuilder head = new StringBuilder(verb + " " + subject);
        fields.forEach(field -> head.append("\n" + field[0] + " " + field[1]));
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        data.writeBytes((head + "\n\n").getBytes(UTF_8));
        data.writeBytes(body);
        return data.toByteArray();
    }

    static Message decoded(byte[] data) {
        int end = 0;
        while (data[end] != '\n' || data[end + 1] != '\n') {
            end++;
        }
        String[] lines = new String(data, 0, end, UTF_8).split("\n");
        String[] first = lines[0].split(" ", 2);
        Message message = new Message(first[0], first.length > 1 ? first[1] : "");
        for (String line : Arrays.copyOfRange(lines, 1, lines.length)) {
            String[] field = line.split(" ", 2);
            message.with(field[0], field.length > 1 ? field[1] : "");
        }
        return message.with(Arrays.copyOfRange(data, end + 2, data.length));
    }
}
