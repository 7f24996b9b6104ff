"""What `enter` reads from standard input to become a Jenkins agent: the controller's own program on our Java.

The program is run by our own loader, with our own libraries, so that nothing of the image takes part in it; children
get neither, since both are named on its command line (an LD_LIBRARY_PATH would reach them).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from agent.toolkit.inside import AGENT_JAR, ARCHIVE, SHELL, TARGET, USE_HOME, WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

# The program starts itself anew from its command line when the controller comes back (hudson.remoting's
# UnixSlaveRestarter reads /proc/self/cmdline), so that the file must stay.
SECRET = "/tmp/.sibling-secret"  # noqa: S105, S108 - where it is, in the container's own tmpfs
# Of the image's variables those which would change or stop our own JVM; builds do not get them either.
HIDDEN = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "LD_PRELOAD", "LD_AUDIT")

# The image's /etc/ld.so.cache names libraries made for another loader.
_JAVA = (f"{TARGET}/lib/ld.so", "--inhibit-cache", "--library-path", f"{TARGET}/lib", f"{TARGET}/jre/bin/java")
# An agent passes bytes on: what counts is its start and its memory. The file of performance counters would be kept in
# /tmp, and so in memory.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
_SYSTEM = ("-Djava.awt.headless=true", "-Dfile.encoding=UTF-8")

# - The launcher starts itself anew if LD_LIBRARY_PATH leads to some libjvm (RequiresSetenv in OpenJDK's java_md.c), and
#   takes our loader for itself.
# - Names of files have the characters of the locale alone, which Java cannot be told otherwise: UTF-8 needs one. Where
#   the image has no locales, ours do no harm to its programs; where it has, but names none, it must have this one.
# - Java takes the home from /etc/passwd, which may not know the user.
_BEFORE = f"""\
_sibling_workdir={WORKSPACE}
unset {" ".join(HIDDEN)}
case ${{LD_LIBRARY_PATH:-}} in
*/lib/server* | */lib/client*) unset LD_LIBRARY_PATH ;;
esac
if [ ! -e /usr/lib/locale ] && [ -z "${{LOCPATH:-}}" ]; then
    export LOCPATH={TARGET}/lib/locale
fi
if [ -z "${{LC_ALL:-${{LC_CTYPE:-${{LANG:-}}}}}}" ] &&
    {{ [ -d "${{LOCPATH:-/usr/lib/locale}}/C.utf8" ] || [ -d /usr/lib/locale/C.UTF-8 ]; }}; then
    export LC_CTYPE=C.UTF-8
fi
{USE_HOME}"""
# A here-document is no argument of any process.
_KEEP_SECRET = f"""\
(
    umask 077
    {TARGET}/bin/busybox cat >{SECRET} <<_SIBLING_SECRET
$_sibling_secret
_SIBLING_SECRET
)
unset _sibling_secret
"""
# The JVM maps an archive without a look at what is in it, and dies of one that is cut off: only one that was read to
# its end may get the name that it is looked for by. TERM is for the program, which archives its classes as it ends.
_RECORD = f"""\
trap : TERM
made={{made}}
{TARGET}/bin/busybox rm -f "$made"
"$@"
code=$?
if {shlex.join((*_JAVA, *_JVM))} -Xshare:on -XX:+VerifySharedSpaces -XX:SharedArchiveFile="$made.part" \\
    -cp {TARGET}/{AGENT_JAR} --version >/dev/null
then
    {TARGET}/bin/busybox mv -f "$made.part" "$made"
else
    echo "[sibling] the archive of the agent's classes is not whole, and not kept" >&2
fi
exit $code
"""


def agent_task(
    *,
    url: str,
    name: str,
    secret: str,
    heap: int | None,
    archive: bool,
    archive_to: str | None = None,
    options: Sequence[str] = (),
) -> bytes:
    """What `enter` reads to run the agent program as a node of the controller at `url`; needs an agent toolkit.

    `heap` is in bytes, by default a quarter of the container's memory. `archive` uses the toolkit's archive of classes,
    which must be there. `archive_to` makes one at that path in the container, once the program has ended, which TERM
    lets it do: allow it some seconds. `options` are the JVM's. The secret is in a file that only the user can read.
    """
    jvm = [*_JVM, *_SYSTEM, *options]
    if heap is not None:
        jvm.append(f"-Xmx{heap // 1024}k")
    if archive:
        # One that does not fit is passed by; from JDK 25 on that is told as an error.
        jvm += [f"-XX:SharedArchiveFile={TARGET}/{ARCHIVE}", "-Xlog:cds*=off"]
    if archive_to is not None:
        jvm += [f"-XX:ArchiveClassesAtExit={archive_to}.part", "-Xlog:cds*=error"]
    program = ["-jar", f"{TARGET}/{AGENT_JAR}", "-url", url, "-name", name, "-secret", f"@{SECRET}"]
    program += ["-webSocket", "-workDir", WORKSPACE]
    text = f"{_BEFORE}_sibling_secret={shlex.quote(secret)}\n{_KEEP_SECRET}"
    text += f'set -- {shlex.join((*_JAVA, *jvm))} "-Duser.home=$HOME" {shlex.join(program)}\n'
    task = text.encode()
    return task if archive_to is None else wrapped(task, _RECORD.format(made=shlex.quote(archive_to)))


def wrapped(task: bytes, script: str) -> bytes:
    """The same task with its command as the arguments of a shell script, in which `"$@"` runs it."""
    return task + f'set -- {shlex.join((*SHELL, "-c", script, "sh"))} "$@"\n'.encode()
