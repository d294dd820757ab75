# Threads, files, the modules written in C that a small Python has, and an exit status.
import hashlib, io, math, os, random, re, signal, sys, threading, time, zlib

with open("bytes", "rb") as f:
    data = f.read()
print(hashlib.sha256(data).hexdigest(), zlib.crc32(data), len(zlib.compress(data, 9)))

lock, total = threading.Condition(), []
def worker(n):
    for i in range(200):
        with lock:
            total.append(n * i)
            lock.notify()
threads = [threading.Thread(target=worker, args=(n,)) for n in range(6)]
for t in threads:
    t.start()
with lock:
    while len(total) < 1200:
        lock.wait(10)
for t in threads:
    t.join()
print(sum(total))

caught = []
signal.signal(signal.SIGALRM, lambda s, frame: caught.append(s))
signal.setitimer(signal.ITIMER_REAL, 0.01)
while not caught:
    time.sleep(0.5)
start = time.monotonic()
time.sleep(0.02)
print(caught, time.monotonic() - start >= 0.02)

os.mkdir("../tmp/py")
with open("../tmp/py/a", "w") as f:
    f.write("text\n" * 1000)
os.rename("../tmp/py/a", "../tmp/py/b")
print(os.listdir("../tmp/py"), os.stat("../tmp/py/b").st_size)
for call in (lambda: open("none"), lambda: os.rmdir("../tmp/py"), lambda: os.read(99, 1), lambda: os.listdir("text")):
    try:
        call()
    except OSError as e:
        print(type(e).__name__, e)
print(math.pi, "é".encode(), re.sub(r"(\d+)", r"<\1>", "a1b22"))
random.seed(5)
print(random.random(), math.factorial(60), 2 ** 0.5, math.sin(1e6), "%.17g" % 0.1)
print("on stderr", file=sys.stderr)
sys.exit(7)
