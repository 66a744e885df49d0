"""Plays the pages of the docker module, against an image of a registry: tutorial.py SOCKET IMAGE."""
import io
import sys
import tarfile

import docker

socket, image = sys.argv[1:]
client = docker.DockerClient(base_url="unix://" + socket)
steps = 0


def step(holds, seen=None):
    global steps
    steps += 1
    assert holds, seen


def refused(kind, words, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as e:
        step(words in str(e), e)
    else:
        raise AssertionError("no error: " + words)


# images
pulled = client.images.pull(image)
step(pulled.tags == [image], pulled.tags)
step(client.images.list(filters={"reference": image}) == [pulled])
step(pulled.history()[0]["Id"] == pulled.id, pulled.history())
step(pulled.tag("mine", "1"))
pulled.reload()
saved = b"".join(pulled.save(named="mine:1"))
client.images.remove("mine:1")
step([i.tags for i in client.images.load(saved)] == [[image, "mine:1"]], client.images.list())
pushed = client.images.push(image, stream=True, decode=True)
step(any("digest" in line.get("status", "") for line in pushed))
refused(docker.errors.ImageNotFound, "No such image: none", client.images.get, "none")
refused(docker.errors.NotFound, "not found", client.images.pull, image + "-none")
refused(docker.errors.APIError, "building images is not built into Berth", client.images.build,
        fileobj=io.BytesIO(b"FROM scratch\n"))

# containers that run to their end
quiet = {"network_mode": "none"}
step(client.containers.run(image, ["echo", "hello world"], remove=True, **quiet) == b"hello world\n")
step(client.containers.run(image, "cat /etc/hostname", hostname="box", remove=True, **quiet) == b"box\n")
refused(docker.errors.ContainerError, "wrong", client.containers.run, image, ["sh", "-c", "echo wrong >&2; exit 3"],
        remove=True, **quiet)

# one that goes on
events = client.events(decode=True, filters={"type": "container"})
c = client.containers.run(image, ["sh", "-c", "echo one; echo two >&2; exec cat"], name="on", detach=True,
                          stdin_open=True, mem_limit="64m", **quiet)
step([next(events)["Action"], next(events)["Action"]] == ["create", "start"])
events.close()
said = b""
for piece in c.logs(stream=True, follow=True):  # it has begun, and may not have said anything yet
    said += piece
    if b"one\n" in said and b"two\n" in said:
        break
step(c.logs(stderr=False) == b"one\n", said)
talk = c.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
talk._sock.sendall(b"three\n")
frame = talk.read(8 + len(b"three\n"))
step(frame[8:] == b"three\n", frame)
talk.close()
follow = c.logs(stream=True, follow=True, stderr=False)
step([next(follow), next(follow)] == [b"one\n", b"three\n"])
follow.close()
step(c.stats(stream=False)["memory_stats"]["limit"] == 64 << 20, c.stats(stream=False))
step("usage" in next(c.stats(stream=True, decode=True))["memory_stats"])
step(["cat"] == [p[-1] for p in c.top()["Processes"]], c.top())
code, (out, err) = c.exec_run(["sh", "-c", "echo out; echo err >&2; exit 7"], demux=True)
step((code, out, err) == (7, b"out\n", b"err\n"), (code, out, err))
step(b"".join(c.exec_run("echo streamed", stream=True).output) == b"streamed\n")
c.pause()
c.reload()
step(c.status == "paused", c.status)
c.unpause()
c.rename("renamed")
c.update(mem_limit="128m", memswap_limit="128m")
c.reload()
step((c.name, c.attrs["HostConfig"]["Memory"]) == ("renamed", 128 << 20), c.attrs["HostConfig"])

# files
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as tar:
    member = tarfile.TarInfo("file")
    member.size = 5
    tar.addfile(member, io.BytesIO(b"there"))
step(c.put_archive("/tmp", packed.getvalue()))
parts, stat = c.get_archive("/tmp/file")
with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
    step((tar.extractfile("file").read(), stat["size"]) == (b"there", 5), stat)
step({"Path": "/tmp/file", "Kind": 1} in c.diff(), c.diff())
with tarfile.open(fileobj=io.BytesIO(b"".join(c.export()))) as tar:
    step("tmp/file" in tar.getnames(), tar.getnames())
made = c.commit("committed", "1")
step(client.containers.run(made, "cat /tmp/file", remove=True, **quiet) == b"there")
c.kill()
step(c.wait()["StatusCode"] == 137)
c.start()
c.restart(timeout=0)
c.stop(timeout=0)
step(client.containers.list(all=True, filters={"status": "exited"}) == [c])
c.remove()
client.images.remove("committed:1")

# networks and volumes
network = client.networks.create("net", labels={"who": "python"})
volume = client.volumes.create("vol", labels={"who": "python"})
server = client.containers.run(image, "sleep 1000", name="server", detach=True, network="net", volumes={"vol": {"bind": "/v", "mode": "rw"}})
network.reload()
step(network.containers == [server], network.attrs)
step(b"1 packets received" in client.containers.run(image, "ping -c 1 server", network="net", remove=True))
refused(docker.errors.APIError, "volume is in use", volume.remove)
network.disconnect(server)
network.connect(server, aliases=["other"])
server.reload()
step("other" in server.attrs["NetworkSettings"]["Networks"]["net"]["Aliases"], server.attrs["NetworkSettings"])
refused(docker.errors.APIError, "active endpoints", network.remove)
server.remove(force=True)
step(client.networks.list(names=["net"]) == [network])
network.remove()
step(client.volumes.list(filters={"label": "who=python"}) == [volume])
volume.remove()

# the engine
step(client.info()["Images"] == len(client.images.list()), client.info())
step(client.version()["Os"] == "linux")
step(set(client.df()) >= {"Images", "Containers", "Volumes"}, client.df())
client.containers.create(image, "true", **quiet)
step(len(client.containers.prune()["ContainersDeleted"]) == 1)
step(client.networks.prune()["NetworksDeleted"] is None)
refused(docker.errors.APIError, "not a swarm manager", client.services.list)
print(steps, "steps")
