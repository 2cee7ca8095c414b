// The Node peer of bench/drain.py: http.Server, stopped with server.close() as its documentation says.
'use strict';
const fs = require('fs');
const http = require('http');
const path = require('path');

const [port, root] = process.argv.slice(2);

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/small') {
    response.setHeader('Content-Length', 12);
    response.end('Hello World\n');
  } else if (url.pathname === '/slow') {
    setTimeout(() => response.end('Hello World\n'), Number(url.searchParams.get('ms')));
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
});

process.on('SIGTERM', () => server.close());
server.listen(Number(port), '127.0.0.1');
