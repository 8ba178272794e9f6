"""Stands before a real MCP server over stdio and spoils it as the file $MOOD says at that moment: `slow MS` stops the server for so long
with every call, `dies` ends it with the next call and lets none start, anything else lets all through. Every call appends $NAME to $TRACE.
"""

import os
import signal
import subprocess
import sys
import threading
import time


def mood():
    try:
        with open(os.environ["MOOD"]) as file:
            return file.read().split() or [""]
    except FileNotFoundError:
        return [""]


def leave_trace():
    book = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(book, (os.environ["NAME"] + "\n").encode())
    os.close(book)


def answers(server):
    for line in server.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    os._exit(0)


def send(server, line):
    server.stdin.write(line)
    server.stdin.flush()


if mood()[0] == "dies":
    sys.exit("in no mood to start")
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
waking = threading.Timer(0, lambda: None)
threading.Thread(target=answers, args=[server], daemon=True).start()
for line in sys.stdin.buffer:
    now = mood()
    if b'"tools/call"' in line:
        leave_trace()
        if now[0] == "dies":
            server.kill()
            server.wait()
            os._exit(1)
        if now[0] == "slow":
            server.send_signal(signal.SIGSTOP)
            waking.cancel()
            waking = threading.Timer(int(now[1]) / 1000, server.send_signal, [signal.SIGCONT])
            waking.start()
    send(server, line)
server.stdin.close()
server.wait()
