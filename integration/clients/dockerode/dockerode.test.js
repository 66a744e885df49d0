// Plays what dockerode's own page shows, against the engine at $SOCKET, with images of the registry at $REGISTRY.
'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { PassThrough } = require('node:stream');
const { text, buffer } = require('node:stream/consumers');
const { after, test } = require('node:test');
const Docker = require('dockerode');

const version = process.env.VERSION || undefined; // "v1.41"; none: the engine's own
const docker = new Docker({ socketPath: process.env.SOCKET, version });
const image = process.env.REGISTRY + '/box:1';
const labels = { who: 'dockerode' };
const mine = { label: ['who=dockerode'] };

// create makes a container that runs a line of shell, without a network.
function create(script, options = {}) {
  return docker.createContainer({
    Image: image, Cmd: ['sh', '-c', script], Labels: labels, HostConfig: { NetworkMode: 'none' }, ...options,
  });
}

async function start(script, options) {
  const container = await create(script, options);
  await container.start();
  return container;
}

// progress is all that an answer of images says while it goes on.
function progress(stream) {
  return new Promise((resolve, reject) => {
    docker.modem.followProgress(stream, (err, said) => (err ? reject(err) : resolve(said)));
  });
}

// demux is what a multiplexed stream carries, once it has ended.
async function demux(stream) {
  const stdout = new PassThrough(), stderr = new PassThrough();
  docker.modem.demuxStream(stream, stdout, stderr);
  stream.on('end', () => { stdout.end(); stderr.end(); });
  const [out, err] = await Promise.all([text(stdout), text(stderr)]);
  return { out, err };
}

// until reads a stream until what it carries holds, and then gives the stream up.
function until(stream, holds) {
  return new Promise((resolve, reject) => {
    let seen = '';
    stream.on('data', (chunk) => {
      seen += chunk;
      if (!holds(seen)) return;
      resolve(seen);
      stream.destroy();
    });
    stream.on('error', reject);
    stream.on('end', () => reject(new Error('the stream ended with ' + JSON.stringify(seen))));
  });
}

// refused is the error of what has to fail.
async function refused(promise, status, words) {
  await assert.rejects(promise, (err) => {
    assert.equal(err.statusCode, status, err.message);
    assert.match(err.message, words);
    return true;
  });
}

after(async () => {
  for (const c of await docker.listContainers({ all: true, filters: mine })) {
    await docker.getContainer(c.Id).remove({ force: true, v: true });
  }
});

test('ping, version, info', async () => {
  assert.equal((await docker.ping()).toString(), 'OK');
  const v = await docker.version();
  assert.equal(v.Os, 'linux');
  assert.ok(v.ApiVersion && v.Version && v.KernelVersion, JSON.stringify(v));
  const info = await docker.info();
  assert.ok(info.ID && info.NCPU > 0 && info.MemTotal > 0, JSON.stringify(info));
});

test('pull, with its progress', async () => {
  const said = await progress(await docker.pull(image));
  assert.match(said.at(-1).status, /^Status: Downloaded newer image for /);
  const again = await progress(await docker.createImage({ fromImage: image }));
  assert.match(again.at(-1).status, /^Status: Image is up to date for /);
  await assert.rejects(async () => progress(await docker.pull(process.env.REGISTRY + '/box:none')), /not found/);
});

test('images: list, inspect, history, tag, push, search by filter, remove', async () => {
  const listed = await docker.listImages({ filters: { reference: [image] } });
  assert.deepEqual(listed.map((i) => i.RepoTags), [[image]]);
  const box = docker.getImage(image);
  assert.equal((await box.inspect()).Id, listed[0].Id);
  assert.ok((await box.history()).length > 0);
  const copy = process.env.REGISTRY + '/copy';
  await box.tag({ repo: copy, tag: '2' });
  const said = await progress(await docker.getImage(copy).push({ tag: '2' }));
  assert.ok(said.some((s) => /^2: digest: sha256:/.test(s.status)), JSON.stringify(said));
  const removed = await docker.getImage(copy + ':2').remove();
  assert.ok(removed.some((r) => r.Untagged === copy + ':2'), JSON.stringify(removed));
  await refused(docker.getImage(copy + ':2').inspect(), 404, /no such image/i);
});

test('images: save, load, import', async () => {
  const saved = await buffer(await docker.getImage(image).get());
  const said = await progress(await docker.loadImage(PassThrough.from([saved])));
  assert.match(said.at(-1).stream, /^Loaded image: /);
  const container = await create('true');
  const files = await buffer(await container.export());
  await progress(await docker.importImage(PassThrough.from([files]), { repo: 'imported', tag: 'now' }));
  await docker.getImage('imported:now').remove();
});

test('create, start, inspect, list, stop, remove', async () => {
  const container = await create('sleep 1000', { name: 'life' });
  assert.equal((await container.inspect()).State.Status, 'created');
  await container.start();
  const seen = await container.inspect();
  assert.ok(seen.State.Running && seen.Config.Labels.who === 'dockerode', JSON.stringify(seen.State));
  const listed = await docker.listContainers({ filters: { name: ['life'] } });
  assert.deepEqual(listed.map((c) => c.Names), [['/life']]);
  await container.rename({ name: 'renamed' });
  assert.equal((await docker.getContainer('renamed').inspect()).Name, '/renamed');
  const top = await container.top({ ps_args: '-eo pid,args' });
  assert.ok(top.Processes.some((p) => p.includes('sleep 1000')), JSON.stringify(top));
  await container.pause();
  assert.ok((await container.inspect()).State.Paused);
  await container.unpause();
  await container.update({ Memory: 64 << 20, MemorySwap: 64 << 20 });
  assert.equal((await container.inspect()).HostConfig.Memory, 64 << 20);
  await container.restart({ t: 0 });
  await container.stop({ t: 0 });
  assert.equal((await container.wait()).StatusCode, 137);
  await refused(container.stop(), 304, /already stopped/); // as dockerode has it
  await container.remove();
  await refused(container.inspect(), 404, /no such container/i);
});

test('attach, with streams both ways', async () => {
  const container = await create('while read line; do echo "got $line"; done; echo end >&2', {
    OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
  });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  await container.start();
  const said = demux(stream);
  stream.write('one\n');
  stream.write('two\n');
  stream.end();
  assert.deepEqual(await said, { out: 'got one\ngot two\n', err: 'end\n' });
  assert.equal((await container.wait()).StatusCode, 0);
});

test('attach to a terminal, and its size', async () => {
  const container = await create('read _; stty size', { OpenStdin: true, StdinOnce: true, Tty: true });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true });
  await container.start();
  await container.resize({ h: 33, w: 77 });
  stream.write('\n');
  assert.match(await until(stream, (s) => s.includes('33 77\r\n')), /33 77/);
  await container.wait();
});

test('run, with the output of the container', async () => {
  const out = new PassThrough();
  const said = text(out);
  const [result, container] = await docker.run(image, ['sh', '-c', 'echo hello; exit 4'], out, {
    Labels: labels, Tty: true, HostConfig: { NetworkMode: 'none' },
  });
  out.end();
  assert.equal(result.StatusCode, 4);
  assert.equal(await said, 'hello\r\n');
  await container.remove();
});

test('run, with stdout and stderr apart, and removed by itself', async () => {
  const out = new PassThrough(), err = new PassThrough();
  const said = [text(out), text(err)];
  const [result] = await docker.run(image, ['sh', '-c', 'echo out; echo err >&2'], [out, err], {
    Labels: labels, Tty: false, HostConfig: { NetworkMode: 'none', AutoRemove: true },
  });
  out.end();
  err.end();
  assert.equal(result.StatusCode, 0);
  assert.deepEqual(await Promise.all(said), ['out\n', 'err\n']);
});

test('exec, hijacked, with stdin', async () => {
  const container = await start('sleep 1000');
  const exec = await container.exec({
    Cmd: ['sh', '-c', 'tr a-z A-Z; exit 3'], AttachStdin: true, AttachStdout: true, AttachStderr: true, Env: ['A=b'],
  });
  const stream = await exec.start({ hijack: true, stdin: true });
  const said = demux(stream);
  stream.end('loud\n');
  assert.deepEqual(await said, { out: 'LOUD\n', err: '' });
  assert.equal((await exec.inspect()).ExitCode, 3);
  const plain = await container.exec({ Cmd: ['id', '-u'], AttachStdout: true, User: 'daemon' });
  assert.deepEqual(await demux(await plain.start({})), { out: '1\n', err: '' });
});

test('logs, whole and followed to the end', async () => {
  const container = await start('echo first; echo wrong >&2; read _; echo last', { OpenStdin: true, StdinOnce: true });
  const stdin = await container.attach({ stream: true, stdin: true, hijack: true });
  const stream = await container.logs({ follow: true, stdout: true, stderr: true });
  assert.ok(!Buffer.isBuffer(stream));
  stdin.resume().end('\n');
  assert.deepEqual(await demux(stream), { out: 'first\nlast\n', err: 'wrong\n' });
  const whole = await container.logs({ stdout: true, tail: 1, timestamps: true });
  assert.match(whole.toString(), /\d{4}-\d\d-\d\dT[\d:.]+Z last\n$/);
});

test('stats, once and as a stream', async () => {
  const container = await start('sleep 1000');
  const once = await container.stats({ stream: false });
  assert.ok(once.memory_stats.usage > 0 && once.cpu_stats.cpu_usage.total_usage > 0, JSON.stringify(once));
  const stream = await container.stats({ stream: true });
  const lines = await until(stream, (s) => s.trim().split('\n').length >= 2);
  const [first, second] = lines.trim().split('\n').map((l) => JSON.parse(l));
  assert.ok(second.read > first.read);
  assert.deepEqual(second.precpu_stats.cpu_usage, first.cpu_stats.cpu_usage);
});

test('a stream is given up by an abort signal', async () => {
  const container = await start('sleep 1000');
  const abort = new AbortController();
  const stream = await container.logs({ follow: true, stdout: true, abortSignal: abort.signal });
  abort.abort();
  await assert.rejects(text(stream), /abort/i);
});

test('events', async () => {
  const since = Math.floor(Date.now() / 1000) - 1;
  const stream = await docker.getEvents({ since, filters: { label: ['step=event'] } });
  const container = await create('true', { Labels: { ...labels, step: 'event' } });
  await container.start();
  const seen = await until(stream, (s) => s.includes('"die"'));
  const actions = seen.trim().split('\n').map((l) => JSON.parse(l).Action);
  assert.deepEqual(actions.slice(0, 3), ['create', 'start', 'die']);
});

test('putArchive, getArchive, infoArchive, changes, commit', async () => {
  const container = await create('cat /srv/hello');
  const tar = require('tar-stream');
  const pack = tar.pack();
  pack.entry({ name: 'srv/hello' }, 'hello from a tar\n');
  pack.finalize();
  await container.putArchive(pack, { path: '/' });
  const extract = tar.extract(), files = {};
  extract.on('entry', async (header, stream, next) => {
    files[header.name] = await text(stream);
    next();
  });
  (await container.getArchive({ path: '/srv/hello' })).pipe(extract);
  await once(extract, 'finish');
  assert.deepEqual(files, { hello: 'hello from a tar\n' });
  const head = await container.infoArchive({ path: '/srv/hello' });
  head.resume(); // an answer that nobody reads to its end keeps node running
  const stat = JSON.parse(Buffer.from(head.headers['x-docker-container-path-stat'], 'base64'));
  assert.equal(stat.size, 17);
  await refused(container.getArchive({ path: '/nowhere' }), 404, /\/nowhere/);
  const changes = await container.changes();
  assert.ok(changes.some((c) => c.Path === '/srv/hello' && c.Kind === 1), JSON.stringify(changes));
  const made = await container.commit({ repo: 'committed', tag: 'now', comment: 'with a file' });
  const [, ran] = await docker.run('committed:now', [], null, { Labels: labels, HostConfig: { NetworkMode: 'none' } });
  assert.match((await ran.logs({ stdout: true })).toString(), /hello from a tar/);
  await ran.remove();
  await docker.getImage(made.Id).remove();
});

test('building answers 501, in words', async () => {
  const pack = require('tar-stream').pack();
  pack.entry({ name: 'Dockerfile' }, 'FROM scratch\n');
  pack.finalize();
  await refused(docker.buildImage(pack, { t: 'built' }), 501, /building images is not built into Berth: build with a builder/);
});

test('networks: create, connect, disconnect, remove', async () => {
  const network = await docker.createNetwork({ Name: 'net', Labels: labels });
  const container = await start('sleep 1000', { HostConfig: { NetworkMode: 'bridge' } });
  await network.connect({ Container: container.id, EndpointConfig: { Aliases: ['box'] } });
  const seen = await network.inspect();
  assert.ok(seen.Containers[container.id], JSON.stringify(seen));
  assert.ok((await container.inspect()).NetworkSettings.Networks.net.Aliases.includes('box'));
  assert.deepEqual((await docker.listNetworks({ filters: mine })).map((n) => n.Name), ['net']);
  await refused(network.remove(), 403, /active endpoints/);
  await network.disconnect({ Container: container.id });
  await network.remove();
  await refused(network.inspect(), 404, /network .* not found/);
});

test('volumes: create, use, remove', async () => {
  await docker.createVolume({ Name: 'vol', Labels: labels });
  const volume = docker.getVolume('vol');
  assert.deepEqual((await volume.inspect()).Labels, labels);
  const options = { HostConfig: { NetworkMode: 'none', Binds: ['vol:/data'] } };
  const writer = await start('echo kept >/data/file', options);
  await writer.wait();
  await refused(volume.remove(), 409, /volume is in use/);
  await writer.remove();
  const reader = await start('cat /data/file', options);
  assert.deepEqual(await demux(await reader.logs({ follow: true, stdout: true })), { out: 'kept\n', err: '' });
  await reader.remove();
  assert.deepEqual((await docker.listVolumes({ filters: mine })).Volumes.map((v) => v.Name), ['vol']);
  await volume.remove();
});

test('prune, and what takes space', async () => {
  const container = await start('true');
  await container.wait();
  await docker.createNetwork({ Name: 'unused', Labels: labels });
  await docker.createVolume({ Labels: labels });
  assert.ok((await docker.df()).Containers.some((c) => c.Id === container.id));
  assert.ok((await docker.pruneContainers({ filters: mine })).ContainersDeleted.includes(container.id));
  assert.deepEqual((await docker.pruneNetworks({ filters: mine })).NetworksDeleted, ['unused']);
  assert.equal((await docker.pruneVolumes({ filters: { ...mine, all: ['true'] } })).VolumesDeleted.length, 1);
  assert.equal((await docker.pruneImages({ filters: mine })).SpaceReclaimed, 0);
});

test('what is not there answers as an engine that has it inactive', async () => {
  assert.deepEqual(await docker.listPlugins(), []);
  await refused(docker.listServices(), 503, /not a swarm manager/);
  await refused(docker.listNodes(), 503, /not a swarm manager/);
  await refused(docker.swarmInspect(), 503, /not a swarm manager/);
});
