"""Runs a program's asserts in the program's own process. Runs by itself, where the program would run.

The program is ``program.py`` in the current folder. Standard input: the number of asserts, each with its
size in bytes before it (all numbers of 8 bytes, the highest first), then 32 bytes: the word. The word is
printed if, and only if, all asserts passed; else ``load`` or ``test N`` and the error.

The word is read last, so while the program or an assert runs it is nowhere in this process: a program that
ends early, in whatever way, cannot print it. The asserts are not read before the program is loaded, and see
the builtins as they were before it. A program that is written against this very file can find the pipe and
read the word, and an object that claims to equal everything passes every ``==``: nothing within one process
prevents that. Tests by standard input and output are open to neither.
"""

# A program finds less to tamper with where less is imported.
# ruff: noqa: PTH123

import builtins
import os
import sys
import types


def main() -> None:
    # All that is used once the program has run is held in locals: it may replace what it finds in modules.
    read, write, leave, run, translate = os.read, os.write, os._exit, exec, compile
    number, name_of, said_of, stop = int.from_bytes, type, str, BaseException
    pristine = dict(vars(builtins))
    inlet, outlet, null = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)

    def exactly(size: int) -> bytes:
        text = b""
        while len(text) < size:
            some = read(inlet, size - len(text))
            if not some:
                leave(3)
            text += some
        return text

    def fail(where: str, error: BaseException) -> None:
        try:
            said = said_of(error)
        except stop:
            said = ""
        write(outlet, f"{where}: {name_of(error).__name__}: {said}"[:400].encode("utf-8", "replace"))
        leave(1)

    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution
    names = solution.__dict__
    try:
        with open("program.py", "rb") as file:
            source = file.read()
        run(translate(source, "program.py", "exec"), names)
    except stop as error:
        fail("load", error)
    for index in range(number(exactly(8), "big")):
        test = exactly(number(exactly(8), "big"))
        try:
            names["__builtins__"] = pristine
            run(translate(test, "asserts", "exec"), names)
        except stop as error:
            trace = error.__traceback__ and error.__traceback__.tb_next
            line = test.split(b"\n")[trace.tb_lineno - 1] if trace else test
            fail(f"test {index + 1}: {line.strip()[:150].decode('utf-8', 'replace')}", error)
    write(outlet, exactly(32))
    leave(0)


if __name__ == "__main__":
    main()
