// The HTTP/2 clients of soak.py: sessions with several streams at once, of which some are cancelled. Each answer is
// compared with what its request may get. SIGTERM ends them; the counts are printed in a line of JSON, with the names
// that soak_clients.py has.
//
//     soak_h2.js PORT SEED FAULTS       FAULTS: JSON of soak_faults.py
'use strict';

const http2 = require('http2');

const [port, seed] = process.argv.slice(2, 4).map(Number);
const { kinds, route, refused, cut } = JSON.parse(process.argv[4]);
const SESSIONS = 4, STREAMS = 8, REQUESTS_OF_SESSION = 200, PATIENCE_MS = 30000;
const names = Object.keys(kinds);
const weight = names.reduce((sum, name) => sum + kinds[name].weight, 0);
const counts = {}, complaints = [];
let number = 1e9, stop = false;

let state = seed >>> 0; // mulberry32
function random() {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

const between = ([low, high]) => low + Math.floor(random() * (high - low + 1));
const count = (what, n = 1) => { counts[what] = (counts[what] || 0) + n; };

function draw() {
    let at = random() * weight, name;
    for (name of names)
        if ((at -= kinds[name].weight) < 0)
            break;
    const kind = kinds[name];
    const method = kind.methods[Math.floor(random() * kind.methods.length)];
    const request = { name, kind, method, size: between(kind.size), number: number++ };
    request.body = method === 'POST' ? between(kind.body) : 0;
    request.path = `${name === 'refused' ? refused : route}/${name}/${request.size}/${request.number}`;
    return request;
}

function bytesOf(n, size) {
    const word = String(n).padStart(15, '0') + ' ';
    return Buffer.from(word.repeat(Math.floor(size / word.length) + 1).slice(0, size));
}

const nowSeconds = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC

function noteWrong(outcome, begun, text) {
    console.error(`${(Date.now() / 1000).toFixed(3)} ${text}`);
    complaints.push([outcome, begun, nowSeconds(), text]);
}

function complain(request, outcome, what) {
    noteWrong(outcome, request.begun, `h2 ${request.method} ${request.path}, body ${request.body}: ${what}`);
}

function judge(request, outcome, body) {
    count(outcome === cut || outcome === 'lost' ? 'cut' : `status ${outcome}`);
    if (!request.kind.outcomes.includes(outcome)) {
        if (request.method === 'POST' && outcome === '502')
            count('race');
        else
            complain(request, outcome, `${outcome}, ${body.length} bytes ${body.subarray(0, 80)}`);
        return;
    }
    const want = request.method === 'HEAD' ? Buffer.alloc(0) : bytesOf(request.number, request.size);
    if ((outcome === '200' || outcome === '413') && !body.equals(want))
        complain(request, outcome, `${outcome} with another body: ${body.subarray(0, 80)}`);
    else if (outcome === cut && !want.subarray(0, body.length).equals(body))
        complain(request, outcome, `a part of another body: ${body.subarray(0, 80)}`);
}

function ask(session) {
    return new Promise(resolve => {
        const request = draw(), pieces = [];
        request.begun = nowSeconds();
        let status = 0, left = false;
        count('requests');
        const stream = session.request({ ':method': request.method, ':path': request.path },
                                       { endStream: request.method !== 'POST' });
        const limit = setTimeout(() => { complain(request, 'none', 'no answer'); stream.close(8); }, PATIENCE_MS);
        if (request.method === 'POST')
            stream.end(bytesOf(request.number, request.body));
        if (request.name !== 'early' && request.name !== 'upload' && random() < 0.05) {
            left = true;
            setTimeout(() => stream.close(8), random() < 0.5 ? 1 + 20 * random() : 300 * random());
        }
        stream.on('response', head => { status = head[':status']; });
        stream.on('data', piece => pieces.push(piece));
        stream.on('error', () => {});
        stream.on('close', () => {
            clearTimeout(limit);
            const is_whole = stream.rstCode === 0 && stream.readableEnded !== false && status !== 0;
            if (left) {
                count('left');
                count('left by reset'); // of a POST, perhaps before its body was sent
            } else {
                judge(request, is_whole ? String(status) : status ? cut : 'lost', Buffer.concat(pieces));
            }
            resolve();
        });
    });
}

async function sessions() {
    while (!stop) {
        const session = http2.connect(`http://127.0.0.1:${port}`, { settings: { enablePush: false } });
        count('connections');
        const begun = nowSeconds();
        session.on('error', error => noteWrong('none', begun, `h2 session: ${error.message}`));
        const each = async () => {
            for (let i = 0; i < REQUESTS_OF_SESSION / STREAMS && !stop && !session.closed; i++)
                await ask(session);
        };
        await Promise.all(Array.from({ length: STREAMS }, each));
        await new Promise(resolve => session.close(resolve));
    }
}

process.on('SIGTERM', () => { stop = true; });
Promise.all(Array.from({ length: SESSIONS }, sessions)).then(() => {
    console.log(JSON.stringify({ ...counts, complaints }));
    process.exit(0);
});
