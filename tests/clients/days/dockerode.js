// A day's work with the unmodified dockerode. Given: DOCKER_SOCKET, IMAGE (busybox), PREFIX, REGISTRY, SCRATCH.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const stream = require('node:stream');
const Docker = require('dockerode');

const { IMAGE, PREFIX, REGISTRY, SCRATCH, DOCKER_SOCKET } = process.env;
const docker = new Docker({ socketPath: DOCKER_SOCKET });
const label = `${PREFIX}-day`;

function collector() {
  const chunks = [];
  const sink = new stream.Writable({ write(chunk, _, next) { chunks.push(chunk); next(); } });
  return { sink, text: () => Buffer.concat(chunks).toString() };
}
const ended = (s) => new Promise((resolve, reject) => { s.on('end', resolve); s.on('close', resolve); s.on('error', reject); });
const progress = (s) => new Promise((resolve, reject) =>
  docker.modem.followProgress(s, (error, lines) => (error ? reject(error) : resolve(lines))));
async function collect(s) {
  const chunks = [];
  for await (const chunk of s) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function exec(container, Cmd, more = {}) {
  const job = await container.exec({ Cmd, AttachStdout: true, AttachStderr: true, ...more });
  const s = await job.start(more.AttachStdin ? { hijack: true, stdin: true } : {});
  const out = collector();
  const err = collector();
  docker.modem.demuxStream(s, out.sink, err.sink);
  if (more.input) { s.write(more.input); s.end(); }
  await ended(s);
  return { code: (await job.inspect()).ExitCode, out: out.text(), err: err.text() };
}

async function main() {
  console.log('- system');
  assert.equal((await docker.ping()).toString(), 'OK');
  assert.equal((await docker.info()).OSType, 'linux');
  assert.match((await docker.version()).ApiVersion, /^1\./);
  assert.match((await docker.getNetwork('bridge').inspect()).IPAM.Config[0].Gateway, /^\d+\./);

  console.log('- push and pull');
  const repo = `${REGISTRY}/${PREFIX}/busybox`;
  await docker.getImage(IMAGE).tag({ repo, tag: 'v1' });
  await progress(await docker.getImage(`${repo}:v1`).push({ tag: 'v1', authconfig: {} }));
  await docker.getImage(`${repo}:v1`).remove();
  await assert.rejects(docker.getImage(`${repo}:v1`).inspect(), { statusCode: 404 });
  const lines = await progress(await docker.pull(`${repo}:v1`));
  assert.ok(lines.some((l) => (l.status || '').startsWith('Status: Downloaded newer image')), JSON.stringify(lines));
  await docker.getImage(`${repo}:v1`).remove();

  console.log('- run');
  const out = collector();
  // It answers as soon as the container has ended, and reads the output from another connection.
  const whole = new Promise((resolve) => out.sink.on('finish', resolve));
  const [result, done] = await docker.run(IMAGE, ['sh', '-c', 'echo hello; exit 3'], out.sink, { Tty: true });
  assert.equal(result.StatusCode, 3);
  await whole;
  assert.equal(out.text(), 'hello\r\n');
  await done.remove();
  await assert.rejects(docker.createContainer({ Image: `${PREFIX}-nope` }), { statusCode: 404, message: /No such image/ });

  console.log("- a container's life");
  fs.writeFileSync(`${SCRATCH}/file`, 'seen\n');
  const box = await docker.createContainer({
    Image: IMAGE, name: `${PREFIX}-box`, Labels: { [label]: 'x' }, ExposedPorts: { '80/tcp': {} },
    Cmd: ['sh', '-c', "trap 'exit 6' TERM; echo err >&2; echo up; while :; do sleep 1000 & wait; done"],
    HostConfig: { Binds: [`${SCRATCH}:/mnt:ro`], PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] } },
  });
  const attached = await box.attach({ stream: true, stdout: true, stderr: true, hijack: true });
  const [o, e] = [collector(), collector()];
  docker.modem.demuxStream(attached, o.sink, e.sink);
  await box.start();
  const follow = await box.logs({ follow: true, stdout: true, stderr: false, tail: -1 });
  await new Promise((resolve) => follow.once('data', resolve));
  follow.destroy();
  const inspect = await box.inspect();
  assert.equal(inspect.State.Status, 'running');
  assert.match(inspect.NetworkSettings.Ports['80/tcp'][0].HostPort, /^\d+$/);
  assert.deepEqual((await docker.listContainers({ filters: { label: [label] } })).map((c) => c.Id), [box.id]);
  assert.deepEqual(await exec(box, ['sh', '-c', 'cat /mnt/file; echo e >&2; exit 5']), { code: 5, out: 'seen\n', err: 'e\n' });
  assert.deepEqual(await exec(box, ['cat'], { AttachStdin: true, input: 'piped\n' }), { code: 0, out: 'piped\n', err: '' });
  assert.deepEqual((await exec(box, ['id', '-u'], { User: 'app' })).out, '1000\n');
  assert.equal((await box.top()).Titles[1], 'PID');
  assert.ok((await box.stats({ stream: false })).memory_stats.usage > 0);
  await box.pause();
  await box.unpause();
  await box.rename({ name: `${PREFIX}-crate` });
  await box.update({ CpuShares: 300 });
  await box.restart({ t: 10 });
  // The shell must have set its trap before it is told to end.
  while ((await box.logs({ stdout: true })).toString().split('up').length < 3);
  await box.stop({ t: 10 });
  assert.equal((await box.wait()).StatusCode, 6);
  assert.match(o.text(), /^up\n/);
  assert.match(e.text(), /^err\n/);
  await assert.rejects(box.kill(), { statusCode: 409 });

  console.log('- files');
  const archive = await collect(await box.getArchive({ path: '/mnt/file' }));
  assert.ok(archive.includes('seen\n'));
  const info = await box.infoArchive({ path: '/etc/marker' });
  const header = info.headers ? info.headers['x-docker-container-path-stat'] : null;
  assert.ok(header === null || JSON.parse(Buffer.from(header, 'base64')).name === 'marker');
  await box.putArchive(await collect(await box.getArchive({ path: '/etc/marker' })), { path: '/tmp' });
  assert.ok((await box.changes()).some((c) => c.Path === '/tmp/marker' && c.Kind === 1));
  assert.ok((await collect(await box.export())).includes('tmp/marker'));

  console.log('- images');
  const { Id } = await box.commit({ repo: `${PREFIX}-made`, tag: 'v1', comment: 'why' });
  assert.equal((await docker.getImage(Id).history())[0].Comment, 'why');
  const saved = await collect(await docker.getImage(`${PREFIX}-made:v1`).get());
  await docker.getImage(`${PREFIX}-made:v1`).remove();
  await progress(await docker.loadImage(stream.Readable.from([saved])));
  assert.equal((await docker.getImage(`${PREFIX}-made:v1`).inspect()).Id, Id);
  await docker.getImage(`${PREFIX}-made:v1`).remove();

  console.log('- events');
  const events = await docker.getEvents({ filters: { container: [`${PREFIX}-ev`], event: ['start', 'die'] } });
  const two = new Promise((resolve) => {
    let text = '';
    events.on('data', (chunk) => {
      text += chunk;
      const all = text.trim().split('\n').filter(Boolean);
      if (all.length === 2) resolve(all.map((line) => JSON.parse(line).Action));
    });
  });
  const ev = await docker.createContainer({ Image: IMAGE, Cmd: ['true'], name: `${PREFIX}-ev`, Labels: { [label]: 'x' } });
  await ev.start();
  assert.deepEqual(await two, ['start', 'die']);
  events.destroy();
  await ev.wait();

  console.log('- prune');
  const pruned = await docker.pruneContainers({ filters: { label: [label] } });
  assert.deepEqual(pruned.ContainersDeleted.sort(), [box.id, ev.id].sort());
  assert.deepEqual(await docker.listContainers({ all: true, filters: { label: [label] } }), []);
  console.log('the day is done');
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
