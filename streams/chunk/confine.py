"""What a process that reads hostile files gives up for good: writing files, starting processes, speaking to others.

It needs no rights and no package: a seccomp filter, which Linux has on every machine. On a processor other than x86-64
and ARM64 only the bounds on files hold.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_FILTER_MODE: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000  # with the error in the low bits
_CLONE_THREAD: Final = 0x00010000
_OTHER_NUMBERS: Final = 0x40000000  # from here on x86-64 numbers all calls once more (x32)
_OPEN_FILES_MAX: Final = 64

# Instructions of a filter: load a word of the call, jump where it equals, is at least or has a bit, return.
_LOAD, _IF_EQUAL, _IF_OVER, _IF_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CALL_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16

# machine -> (its number, clone, clone3, all calls that are refused)
_MACHINES: Final = {
    # fork, vfork, execve, execveat; socket, connect; ptrace, process_vm_readv, process_vm_writev; unshare;
    # io_uring_setup
    "x86_64": (0xC000003E, 56, 435, (57, 58, 59, 322, 41, 42, 101, 310, 311, 272, 425)),
    "aarch64": (0xC00000B7, 220, 435, (221, 281, 198, 203, 117, 270, 271, 97, 425)),
}


def confine() -> None:
    """Give these rights up; threads, and reading of files, stay.

    Raises:
        OSError: Linux refuses the filter.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES_MAX, _OPEN_FILES_MAX))
    machine = _MACHINES.get(platform.machine())
    if machine is not None:
        _install(_filter(*machine))


def _filter(machine: int, clone: int, clone3: int, refused: tuple[int, ...]) -> list[bytes]:
    def refuse(number: int) -> bytes:
        return _step(_RETURN, _REFUSE | number)

    steps = [_step(_LOAD, _MACHINE_AT), _step(_IF_EQUAL, machine, 1, 0), refuse(errno.EPERM), _step(_LOAD, _CALL_AT)]
    steps += [_step(_IF_OVER, _OTHER_NUMBERS, 0, 1), refuse(errno.EPERM)]
    for call in refused:
        steps += [_step(_IF_EQUAL, call, 0, 1), refuse(errno.EPERM)]
    # Its flags lie in memory that a filter cannot read; told that there is no such call, libraries take `clone`.
    steps += [_step(_IF_EQUAL, clone3, 0, 1), refuse(errno.ENOSYS)]
    steps += [_step(_IF_EQUAL, clone, 0, 3), _step(_LOAD, _FIRST_ARGUMENT_AT)]
    steps += [_step(_IF_BIT, _CLONE_THREAD, 1, 0), refuse(errno.EPERM)]
    return [*steps, _step(_RETURN, _ALLOW)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _install(steps: list[bytes]) -> None:
    program = ctypes.create_string_buffer(b"".join(steps))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero),
        (_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER_MODE), ctypes.c_void_p(ctypes.addressof(header)), zero, zero),
    ):
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"the process cannot be confined: {os.strerror(number)}")
