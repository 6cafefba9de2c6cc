// A test suite's day with the unmodified Testcontainers for Node. Given: IMAGE (busybox), SCRATCH, DOCKER_HOST or none.
// With a word it leaves what it makes to Ryuk and waits to be killed.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const { GenericContainer, Network, Wait, getContainerRuntimeClient } = require('testcontainers');

const { IMAGE, SCRATCH } = process.env;
const SESSION = 'org.testcontainers.session-id';
const serve = 'mkdir -p /www; echo page >/www/index.html; cat /conf/* >>/www/index.html; echo begins; exec httpd -f -p 80 -h /www';

function server() {
  fs.mkdirSync(`${SCRATCH}/conf`, { recursive: true });
  fs.writeFileSync(`${SCRATCH}/conf/line`, 'from a bind\n');
  return new GenericContainer(IMAGE)
    .withCommand(['sh', '-c', serve])
    .withExposedPorts(80)
    .withBindMounts([{ source: `${SCRATCH}/conf`, target: '/conf', mode: 'ro' }]);
}
const get = async (box) => (await fetch(`http://${box.getHost()}:${box.getMappedPort(80)}/`)).text();
async function text(readable) {
  let all = '';
  for await (const chunk of readable) all += chunk;
  return all;
}

async function orphans() {
  const network = await new Network().start();
  const box = await server().withNetwork(network).withWaitStrategy(Wait.forLogMessage('begins')).start();
  const { container } = await getContainerRuntimeClient();
  const session = (await container.dockerode.getContainer(box.getId()).inspect()).Config.Labels[SESSION];
  const Labels = { [SESSION]: session };
  await container.dockerode.createVolume({ Labels });
  const idle = await container.dockerode.createContainer({ Image: IMAGE, Cmd: ['true'], Labels });
  await idle.commit({ repo: 'orphan', tag: 'latest', changes: `LABEL ${SESSION}=${session}` });
  console.log(`session=${session}`);
  setInterval(() => {}, 1000);
}

async function day() {
  console.log('- waits: a log line, HTTP, ports, a command');
  for (const wait of [Wait.forLogMessage('begins'), Wait.forHttp('/', 80), Wait.forListeningPorts(), Wait.forSuccessfulCommand('wget -qO- http://127.0.0.1/')]) {
    const box = await server().withWaitStrategy(wait).start();
    if (wait.constructor.name !== 'LogWaitStrategy') assert.equal(await get(box), 'page\nfrom a bind\n');
    await box.stop();
  }
  console.log('- exec and copy');
  const box = await server()
    .withCopyContentToContainer([{ content: 'before the start\n', target: '/early', mode: 0o600 }])
    .withWaitStrategy(Wait.forHttp('/', 80))
    .start();
  assert.deepEqual(await box.exec(['sh', '-c', 'echo in; exit 3']), { output: 'in\n', stdout: 'in\n', stderr: '', exitCode: 3 });
  assert.equal((await box.exec(['sh', '-c', 'cat /early; stat -c %a /early'])).output, 'before the start\n600\n');
  await box.copyContentToContainer([{ content: 'copied\n', target: '/www/new' }]);
  assert.ok((await text(await box.copyArchiveFromContainer('/www/new'))).includes('copied\n'));
  await box.restart();
  assert.equal(await get(box), 'page\nfrom a bind\n');
  await box.stop();
  console.log('- a container that is used again');
  process.env.TESTCONTAINERS_REUSE_ENABLE = 'true';
  const again = () => new GenericContainer(IMAGE).withCommand(['sleep', '1000']).withLabels({ suite: 'reuse' }).withReuse();
  const [first, second] = [await again().start(), await again().start()];
  assert.equal(second.getId(), first.getId());
  await first.stop();
  assert.notEqual((await again().start().then((third) => third.stop())).getId(), first.getId());
  console.log('- a network and its aliases');
  const network = await new Network().start();
  const web = await server().withNetwork(network).withNetworkAliases('web', 'www').withWaitStrategy(Wait.forHttp('/', 80)).start();
  for (const name of ['web', 'www']) {
    const client = await new GenericContainer(IMAGE).withCommand(['sleep', '1000']).withNetwork(network).start();
    assert.equal((await client.exec(['wget', '-qO-', `http://${name}/`])).output, 'page\nfrom a bind\n');
    await client.stop();
  }
  await web.stop();
  await network.stop();
  console.log('the day is done');
}

(process.argv.length > 2 ? orphans() : day().then(() => process.exit(0))).catch((error) => { console.error(error); process.exit(1); });
