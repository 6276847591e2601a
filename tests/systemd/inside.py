"""Tries from inside the daemon's sandbox what the daemon must not be able to do, and that what it needs works."""

import ctypes
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
wrong = []


def refused(what, attempt):
    try:
        attempt()
    except OSError as error:
        print(f"tried: {what}: {error.strerror}")
    else:
        wrong.append(what)


def call(number, *arguments):
    def attempt():
        if libc.syscall(number, *arguments) == -1:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return attempt


def write(path):
    return lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT))



def map_executable():
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    if libc.mmap(None, 4096, 7, 0x22, -1, 0) == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mine():
    path = f"/dev/shm/.mine-{os.getpid()}"
    with open(path, "w"):
        return path


refused("an Internet socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
refused("an IPv6 socket", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
refused("a netlink socket", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
refused("write to /etc", write("/etc/conduit/conduitd.toml"))
refused("write to /usr", write("/usr/bin/conduitd"))
refused("write to /var", write("/var/lib/mine"))
refused("write to /run", write("/run/mine"))
refused("look into /root", lambda: os.listdir("/root"))
refused("open a device", lambda: os.open("/dev/mem", os.O_RDONLY))
refused("become root", lambda: os.setuid(0))
refused("executable memory", map_executable)
refused("a set-user-id file", lambda: os.chmod(mine(), 0o4755))
refused("change the owner of a file", lambda: os.chown(mine(), 0, 0))
NUMBERS = {
    "x86_64": {"unshare": 272, "mount": 165, "ptrace": 101, "finit_module": 313, "reboot": 169, "clock_settime": 227,
               "keyctl": 250, "bpf": 321},
    "aarch64": {"unshare": 97, "mount": 40, "ptrace": 117, "finit_module": 273, "reboot": 142, "clock_settime": 112,
                "keyctl": 219, "bpf": 280},
}[os.uname().machine]
for name, arguments in {
    "unshare": (0x00020000,),
    "mount": (b"tmpfs", b"/tmp", b"tmpfs", 0, None),
    "ptrace": (0, 0, 0, 0),
    "finit_module": (-1, b"", 0),
    "reboot": (0xFEE1DEAD, 672274793, 0, None),
    "clock_settime": (0, None),
    "keyctl": (0, -3, 0),
    "bpf": (0, None, 0),
}.items():
    refused(f"the system call {name}", call(NUMBERS[name], *arguments))
refused("a user namespace", call(NUMBERS["unshare"], 0x10000000))

os.remove(mine())
with open("/proc/self/status") as status:
    rights = {line.split(":")[0]: line.split(":")[1].strip() for line in status}
for name in ("CapEff", "CapBnd", "CapPrm"):
    if int(rights[name], 16) != 1 << 3:
        wrong.append(f"{name} is {rights[name]} and not CAP_FOWNER alone")
if rights["NoNewPrivs"] != "1" or rights["Seccomp"] != "2":
    wrong.append("no NoNewPrivs or no seccomp")
if os.getuid() == 0:
    wrong.append("it is root")
if wrong:
    sys.exit("not refused: " + "; ".join(wrong))
print("all of it refused")
