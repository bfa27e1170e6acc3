// Join a mesh from Node.js, with the standard library alone.
//
// A node has to run on this machine, see "p2pnode up". This talks to it over the socket
// in its directory, as docs/openapi.yaml says.
//
//     node examples/node/mesh.js serve greet        offers a service, until Ctrl-C
//     node examples/node/mesh.js call alice/greet   uses that of a member
//     node examples/node/mesh.js call /greet        uses that of the nearest
//
// What it serves reads a name to its end, and answers with a greeting.
'use strict';

const http = require('http');
const net = require('net');
const os = require('os');
const path = require('path');

const directory = process.env.P2PNODE_DIR || path.join(os.homedir(), '.config', 'p2pnode');
const node = { socketPath: path.join(directory, 'control.sock'), agent: false };

// text reads to the end.
async function text(readable) {
  const chunks = [];
  for await (const chunk of readable) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

// ask asks the node, and returns what it answers.
function ask(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ ...node, method, path, headers: { Host: 'node' } }, async (answer) => {
      const said = await text(answer);
      const value = said ? JSON.parse(said) : undefined;
      if (answer.statusCode >= 400) reject(new Error(value.error));
      else resolve(value);
    });
    request.on('error', reject);
    request.end(body && JSON.stringify(body));
  });
}

// dial opens a stream to a service: a socket whose bytes go as they are.
function dial(target) {
  return new Promise((resolve, reject) => {
    const request = http.request({
      ...node,
      method: 'POST',
      path: '/v1/dial/' + target.replace(/^\//, ''),
      headers: { Host: 'node', Connection: 'Upgrade', Upgrade: 'p2pnode-raw' },
    });
    request.on('upgrade', (answer, socket, head) => {
      if (head.length > 0) socket.unshift(head); // what came with the answer
      resolve({ socket, id: answer.headers['p2pnode-stream'] });
    });
    request.on('response', async (answer) => reject(new Error(JSON.parse(await text(answer)).error)));
    request.on('error', reject);
    request.end();
  });
}

// read reads a stream to its end. One that broke looks as if it had ended, so it asks.
async function read(stream) {
  const said = await text(stream.socket).catch((err) => {
    if (err.code !== 'ECONNRESET') throw err;
  });
  const outcome = await ask('GET', '/v1/streams/' + stream.id);
  if (outcome.state === 'broken') throw new Error('the stream broke: ' + outcome.error.error);
  return said;
}

async function call(target) {
  const stream = await dial(target);
  stream.socket.end('node.js'); // and no more will be written
  console.log(await read(stream));
}

async function serve(service) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    let name = '';
    socket.setEncoding('utf8').on('data', (more) => (name += more));
    socket.on('end', () => socket.end('hello ' + name));
    socket.on('error', () => {}); // the caller has gone
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  await ask('POST', '/v1/exposed', { service, target: '127.0.0.1:' + server.address().port });
  console.log('serving', service);
  process.once('SIGINT', async () => {
    await ask('DELETE', '/v1/exposed?service=' + service);
    process.exit();
  });
}

const [verb, argument] = process.argv.slice(2);
const verbs = { call, serve };
if (!verbs[verb] || !argument) {
  console.error('usage: node mesh.js serve SERVICE | call TARGET');
  process.exit(2);
}
verbs[verb](argument).catch((err) => {
  console.error(err.message);
  process.exit(1);
});
