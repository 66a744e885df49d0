"""Plays a container's life with the docker module, in the words of its own tutorial: lifecycle.py SOCKET VERSION."""
import sys

import docker

socket, version = sys.argv[1:]
client = docker.DockerClient(base_url="unix://" + socket, version=version)
assert client.ping()

container = client.containers.create(
    "busybox", ["sh", "-c", "echo out; echo err >&2; sleep 1000"], name="life", network_mode="none",
    labels={"who": "python"}, environment={"A": "b"})
assert container.status == "created", container.status
container.start()
container.reload()
assert container.status == "running", container.status
assert container.labels == {"who": "python"}, container.labels
assert container.attrs["State"]["Running"] is True

code, output = container.exec_run(["sh", "-c", "echo $A; exit 3"])
assert (code, output) == (3, b"b\n"), (code, output)
line = next(container.logs(stdout=True, stderr=False, stream=True))
assert line == b"out\n", line

listed = client.containers.list(filters={"label": "who=python"})
assert [c.name for c in listed] == ["life"], listed
container.stop(timeout=0)
assert container.wait()["StatusCode"] == 137
container.remove()
try:
    client.containers.get("life")
except docker.errors.NotFound as e:
    assert "No such container: life" in str(e), e
else:
    raise AssertionError("the container is still there")
print(client.api.api_version)
