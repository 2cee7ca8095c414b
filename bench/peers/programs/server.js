// The Node peer of bench/drain/drain.py and bench/speed/pool.py: http.Server, stopped with server.close() as its
// documentation says.
'use strict';
const fs = require('fs');
const http = require('http');
const https = require('https');
const path = require('path');

let slow = 0; // requests for /slow

function hello(response) {
  response.setHeader('Content-Length', 12);
  response.end('Hello World\n');
}

const [port, root, tlsPort, cert, key] = process.argv.slice(2);

function answer(request, response) {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/small') {
    hello(response);
  } else if (url.pathname === '/slow') {
    const ms = Number(url.searchParams.get('ms'));
    if (ms > 0 && ++slow % Number(url.searchParams.get('one_in') || 1) === 0) {
      setTimeout(() => response.end('Hello World\n'), ms);
    } else {
      hello(response);
    }
  } else if (url.pathname === '/burn') {
    const until = process.hrtime.bigint() + BigInt(url.searchParams.get('us') || 0) * 1000n;
    while (process.hrtime.bigint() < until);
    hello(response);
  } else if (url.pathname === '/upload') {
    let bytes = 0;
    request.on('data', (chunk) => { bytes += chunk.length; });
    request.on('end', () => response.end(`${bytes}\n`));
  } else if (url.pathname === '/large.bin') {
    const file = path.join(root, 'large.bin');
    response.setHeader('Content-Length', fs.statSync(file).size);
    fs.createReadStream(file).pipe(response);
  } else {
    response.statusCode = 404;
    response.end();
  }
}

function serve(server, onPort) {
  process.on('SIGTERM', () => server.close());
  server.listen(Number(onPort), '127.0.0.1');
}

serve(http.createServer(answer), port);
if (tlsPort) {
  serve(https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, answer), tlsPort);
}
