// An application for the tests: a real server of Node's http module.
//
//     node app.js MODE...
//
// polite  at SIGTERM: take no more, finish, exit with status 0
// deaf    ignore SIGTERM
// late    listen once the file $APP_GATE exists
// Without polite and deaf, SIGTERM ends it at once.
'use strict';
const fs = require('fs');
const http = require('http');

const modes = process.argv.slice(2);
const server = http.createServer((request, response) => {
    const [path, query] = request.url.split('?');
    const value = Number((query || '').split('=')[1]);
    let bytes = 0;
    request.on('data', (piece) => { bytes += piece.length; });
    request.on('end', () => {
        if (path === '/slow')
            setTimeout(() => response.end('slept\n'), value);
        else if (path === '/exit')
            process.exit(value);
        else if (path === '/crash')
            process.kill(process.pid, 'SIGSEGV');
        else if (path === '/pid')
            response.end(`${process.pid}\n`);
        else
            response.end(request.method === 'POST' ? `${bytes}\n` : 'node\n');
    });
});

function listen() {
    if (modes.includes('late') && !fs.existsSync(process.env.APP_GATE))
        setTimeout(listen, 5);
    else
        server.listen(Number(process.env.PORT), '127.0.0.1');
}

if (modes.includes('deaf'))
    process.on('SIGTERM', () => {});
if (modes.includes('polite'))
    process.on('SIGTERM', () => server.close(() => process.exit(0)));
listen();
