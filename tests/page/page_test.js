"use strict";

/* The status page in a real Chromium, of a real server that drains while the page is open.
 *
 *     page_test.js --lastcall PATH
 *     page_test.js --lastcall PATH --pictures FOLDER
 *
 * The second one takes page-calm.png and page-draining.png instead. */

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const http = require("node:http");
const net = require("node:net");
const path = require("node:path");
const { chromium } = require("playwright-core");

const PATIENCE_MS = 15000;
const CHROMIUM = {
    executablePath: process.env.LASTCALL_CHROMIUM || "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    timeout: PATIENCE_MS,
};

function option(name)
{
    const at = process.argv.indexOf(name);
    return at > 0 ? process.argv[at + 1] : undefined;
}

/* Child processes; they must not outlive this process, however it ends. */
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/* ---- the server and its clients ---- */

/* Resolves once it listens: { child, port, admin, ended }. */
function startServer(args)
{
    const child = spawn(option("--lastcall"), ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--threads", "1", "--workers", "16", ...args], { stdio: ["ignore", "ignore", "pipe"] });
    children.add(child);
    const ended = new Promise((resolve) => child.on("exit", (status, signal) => {
        children.delete(child);
        resolve(status === null ? signal : status);
    }));
    return new Promise((resolve, reject) => {
        let log = "";
        child.stderr.on("data", (text) => {
            log += text;
            const port = /listening on 127\.0\.0\.1:(\d+)/.exec(log), admin = /admin on (127\.0\.0\.1:\d+)/.exec(log);
            if (port && admin)
                resolve({ child, port: Number(port[1]), admin: `http://${admin[1]}/`, ended });
        });
        ended.then((status) => reject(new Error(`lastcall ended with ${status}:\n${log}`)));
    });
}

/* A request as bytes, so that a path may be anything; resolves with the answer's first line. */
function ask(server, target)
{
    return new Promise((resolve) => {
        const socket = net.connect(server.port, "127.0.0.1"), pieces = [];
        socket.on("connect", () => socket.write(`GET ${target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n`));
        socket.on("data", (piece) => pieces.push(piece));
        socket.on("error", () => {});
        socket.on("close", () => resolve(Buffer.concat(pieces).toString().split("\r\n")[0]));
    });
}

/* The upstream of the server: it answers at once, or, for a path with `held` in it, when the test
 * wants it to. So no test depends on timing. */
function startUpstream()
{
    const held = [];
    const upstream = http.createServer((request, response) => {
        if (request.url.includes("held"))
            held.push(response);
        else
            response.end("hello");
    });
    return new Promise((resolve) => upstream.listen(0, "127.0.0.1", () => resolve({
        url: `http://127.0.0.1:${upstream.address().port}/`,
        release: () => held.splice(0).forEach((response) => response.end("at last")),
        close: () => upstream.close(),
    })));
}

/* One connection that asks again as soon as it is answered, until it is closed. */
function keepAsking(server, pauseMs)
{
    const socket = net.connect(server.port, "127.0.0.1");
    const next = () => socket.writable && socket.write("GET /hello HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    socket.on("connect", next);
    socket.on("data", () => setTimeout(next, pauseMs * (0.5 + Math.random())));
    socket.on("error", () => {});
    return socket;
}

/* ---- the page ---- */

const text = (page, id) => page.$eval(`#${id}`, (node) => node.textContent.replaceAll("\u00a0", " "));
const waitText = (page, id, pattern) => page.waitForFunction(
    ([where, source]) => new RegExp(source).test(document.getElementById(where).textContent.replaceAll("\u00a0", " ")),
    [id, pattern.source], { timeout: PATIENCE_MS });

/* The same of what has been on the screen at any time: `step | head | say | aside | ready`. */
async function waitSeen(page, pattern)
{
    try {
        await page.waitForFunction((source) => window.seen.some((moment) => new RegExp(source).test(moment)),
            pattern.source, { timeout: PATIENCE_MS });
    } catch (error) {
        const seen = await page.evaluate(() => [...new Set(window.seen)].slice(-20));
        throw new Error(`not seen: ${pattern}; but:\n${seen.join("\n")}`, { cause: error });
    }
}

/* Runs in the page, from its beginning. */
function watch()
{
    window.seen = [];
    window.readAloud = [];
    addEventListener("DOMContentLoaded", () => {
        const of = (id) => document.getElementById(id).textContent.replaceAll("\u00a0", " ");
        const all = { childList: true, characterData: true, attributes: true, subtree: true };
        new MutationObserver(() => window.seen.push([
            document.querySelector("#steps [aria-current=step]")?.firstChild.data,
            of("head"), of("say"), of("aside"), of("ready")].join(" | "))).observe(document.body, all);
        new MutationObserver(() => window.readAloud.push(of("news"))).observe(document.getElementById("news"), all);
    });
}

/* Opens a page, and keeps what must not happen in `page.wrongs`. */
async function openPage(browser, server)
{
    const page = await browser.newPage({ viewport: { width: 1100, height: 800 }, colorScheme: "light" });
    page.wrongs = [];
    page.on("console", (message) => page.wrongs.push(`console: ${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => page.wrongs.push(`error: ${error.message}`));
    page.on("request", (request) => {
        if (![server.admin, `${server.admin}events`].includes(request.url()))
            page.wrongs.push(`request: ${request.url()}`);
    });
    await page.addInitScript(watch);
    const answer = await page.goto(server.admin);
    assert.equal(answer.status(), 200);
    return page;
}

async function checkWidths(page, when)
{
    for (const width of [360, 768, 1100]) {
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${when}: ${wide} pixels wide in a window of ${width}`);
    }
}

/* What a keyboard and a screen reader go by. */
async function checkAccess(page)
{
    assert.equal(await page.$$eval("h1", (all) => all.length), 1);
    for (const landmark of ["header", "main", "footer", "[role=status][aria-live=polite]", "html[lang]"])
        assert.ok(await page.$(landmark), landmark);
    assert.ok(await page.$$eval("th", (all) => all.length === 9 && all.every((th) => th.scope === "col")));
    assert.ok(await page.$$eval("section", (all) => all.every((section) =>
        document.getElementById(section.getAttribute("aria-labelledby"))?.textContent)));
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(() => {
        const at = document.activeElement;
        return { id: at.id, outline: getComputedStyle(at).outlineStyle };
    });
    assert.deepEqual(focus, { id: "pause", outline: "solid" });
    await page.keyboard.press("Space");
    assert.equal(await page.getAttribute("#pause", "aria-pressed"), "true");
    await page.keyboard.press("Space");
    assert.equal(await page.getAttribute("#pause", "aria-pressed"), "false");
    await page.evaluate(() => document.activeElement.blur());
}

/* Text on its ground, in both schemes: at least 4.5 to 1. */
async function checkSchemes(page)
{
    const grounds = [];
    for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        const seen = await page.evaluate(() => {
            const rgb = (value) => value.match(/[\d.]+/g).slice(0, 3).map(Number);
            const luminance = (color) => rgb(color).map((c) => c / 255)
                .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = (node) => {
                for (; node; node = node.parentElement)
                    if (!/, 0\)$|transparent/.test(getComputedStyle(node).backgroundColor))
                        return getComputedStyle(node).backgroundColor;
                return "rgb(255, 255, 255)";
            };
            const worst = ["who", "head", "say", "aside", "flying", "rate-more", "pause", "requests-title"].map((id) => {
                const node = document.getElementById(id);
                const [a, b] = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((x, y) => y - x);
                return { id, ratio: (a + 0.05) / (b + 0.05) };
            }).sort((x, y) => x.ratio - y.ratio)[0];
            return { worst, ground: getComputedStyle(document.body).backgroundColor };
        });
        assert.ok(seen.worst.ratio >= 4.5, `${colorScheme}: ${seen.worst.id} has a contrast of ${seen.worst.ratio}`);
        grounds.push(seen.ground);
    }
    assert.notEqual(grounds[0], grounds[1]);
    await page.emulateMedia({ colorScheme: "light" });
}

/* ---- the tests ---- */

async function testDrainIsSeenAsItHappens(browser)
{
    const upstream = await startUpstream();
    const server = await startServer(["--lame-duck", "1s", "--deadline", "60s", "--proxy", upstream.url]);
    const askers = [3, 5, 8].map((ms) => keepAsking(server, ms));
    const page = await openPage(browser, server);

    await waitText(page, "ready", /^ready$/);
    await waitText(page, "rate", /^[1-9]/);
    const answers = ["/held?invoice=2041", "/held?invoice=2048", "/held?name=<b>bold</b>"].map((target) => ask(server, target));
    await waitText(page, "flying", /^[3-9]$/);
    await waitText(page, "rows", /<b>bold<\/b>/); /* shown as text, not as markup */
    assert.equal(await page.$("tbody b"), null);
    await waitText(page, "rows", /GET shop\.example\/held\?invoice=2041/);
    assert.equal(await text(page, "requests-title"), "Oldest requests");
    await waitSeen(page, /^Running \| Serving \| /);
    await checkAccess(page);
    await checkSchemes(page);
    await checkWidths(page, "running");

    server.child.kill("SIGTERM");
    await waitSeen(page, /^Lame duck \| .* \| until the listeners close; it can be called off\. .* \| not ready$/);
    await waitSeen(page, /^Draining \| \d+\.\d s left \| Waiting for 3 requests on 3 connections, until the deadline of 1 min 0 s\. \| .*Begun by SIGTERM \(from process \d+\)\. \| not ready$/);
    assert.equal(await text(page, "requests-title"), "The drain waits for");
    assert.match(await text(page, "rows"), /invoice=2048/);
    await checkWidths(page, "draining");
    await page.waitForFunction(() => new Set(window.seen.filter((moment) => moment.startsWith("Draining"))
        .map((moment) => moment.split(" | ")[1])).size >= 3, null, { timeout: PATIENCE_MS });
    const left = (await page.evaluate(() => window.seen.filter((moment) => /^Draining \| [\d.]+ s left/.test(moment))))
        .map((moment) => Number.parseFloat(moment.split(" | ")[1]));
    assert.deepEqual(left, [...left].sort((a, b) => b - a)); /* time runs one way */

    upstream.release();
    assert.equal(await server.ended, 0);
    assert.deepEqual(await Promise.all(answers), Array(3).fill("HTTP/1.1 200 OK"));
    await waitSeen(page, /^Done \| Exit status 0 \| Drained in [^:]+: nothing was left unfinished\. \| \d+ answered, \d+ idle connections? released\. Begun by SIGTERM/);
    assert.equal(await text(page, "rows"), "All were answered.");
    assert.match(await text(page, "who"), /has ended\. Reload the page/);
    await checkWidths(page, "done");

    /* Steps were read aloud, numbers were not. */
    const aloud = await page.evaluate(() => window.readAloud);
    assert.match(aloud[aloud.length - 1], /^Done\. Exit status 0\./);
    assert.ok(aloud.length <= 5, `read aloud: ${aloud.join(" | ")}`);
    assert.deepEqual(page.wrongs, []);
    askers.forEach((socket) => socket.destroy());
    upstream.close();
    await page.close();
}

async function testUnfinishedRequestsStayOnTheScreen(browser)
{
    const server = await startServer(["--deadline", "900ms"]);
    const page = await openPage(browser, server), never = ask(server, "/sleep?ms=60000&late=1");

    await waitText(page, "rows", /late=1/);
    server.child.kill("SIGTERM");
    assert.equal(await server.ended, 3);
    await never;
    await waitSeen(page, /^Done \| Exit status 3 \| The deadline passed after [\d.]+ m?s: 1 request unfinished, named in the log\./);
    assert.match(await text(page, "flying-more"), /, 1 given up$/);
    assert.equal(await text(page, "head"), "Exit status 3");
    assert.equal(await text(page, "requests-title"), "Last seen in flight");
    assert.match(await text(page, "rows"), /late=1/);
    assert.ok(await page.$eval("body", (body) => body.classList.contains("alarm")));
    assert.deepEqual(page.wrongs, []);
    await page.close();
}

async function testServerThatVanishesIsSaidToBeLost(browser)
{
    const server = await startServer([]);
    const page = await openPage(browser, server);

    await waitText(page, "ready", /^ready$/);
    server.child.kill("SIGKILL");
    await server.ended;
    await waitText(page, "who", /^connection lost; this is the last state of process \d+\./);
    assert.equal(await text(page, "head"), "Serving"); /* the last that is known, not a guess */
    await page.close();
}

/* One of two refuses: it is ejected, and the page says so. With one upstream there is nothing to say. */
async function testUpstreamsAreShown(browser)
{
    const upstream = await startUpstream(), gone = await startUpstream();
    const server = await startServer(["--proxy", upstream.url, "--proxy", gone.url]);
    const page = await openPage(browser, server);

    gone.close();
    await waitText(page, "upstream-rows", /^uphttp:/);
    for (let i = 0; i < 10; i++)
        assert.equal(await ask(server, "/"), "HTTP/1.1 200 OK");
    await waitText(page, "upstream-rows", /\(default\/\)0100ejected/); /* the page hears of both by and by */
    assert.equal(await page.$$eval("#upstream-rows .bad", (all) => all.length), 1);
    const rows = await page.$$eval("#upstream-rows tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
    assert.match(rows[0].join("|"), /^up\|http:\/\/127\.0\.0\.1:\d+ \(default\/\)\|0\|10\|0$/);
    assert.match(rows[1].join("|"), /^ejected.*\|http:\/\/127\.0\.0\.1:\d+ \(default\/\)\|0\|[3-9]\|[3-9]$/);
    await checkWidths(page, "upstreams");
    assert.deepEqual(page.wrongs, []);
    await page.close();

    const single = await startServer(["--proxy", upstream.url]), other = await openPage(browser, single);
    await waitText(other, "ready", /^ready$/);
    assert.equal(await other.isVisible("#upstreams"), false);
    await other.close();
    upstream.close();
    [server, single].forEach((one) => one.child.kill("SIGTERM"));
    await Promise.all([server.ended, single.ended]);
}

/* ---- pictures ---- */

async function takePictures(browser)
{
    const folder = option("--pictures"), wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const server = await startServer(["--lame-duck", "1s", "--deadline", "10s"]);
    const askers = [3, 5, 8, 13].map((ms) => keepAsking(server, ms)), page = await openPage(browser, server);

    await wait(14000);
    [4600, 5600, 6600, 7000, 7400].forEach((ms, i) => ask(server, `/sleep?ms=${ms}&invoice=${2041 + 7 * i}`));
    ask(server, "/stream?kb=64&ms=7200&export=orders.csv");
    await wait(1200);
    await page.screenshot({ path: path.join(folder, "page-calm.png"), fullPage: true });
    server.child.kill("SIGTERM");
    await wait(4700);
    await page.screenshot({ path: path.join(folder, "page-draining.png"), fullPage: true });
    await server.ended;
    askers.forEach((socket) => socket.destroy());
    await page.close();
}

async function main()
{
    const browser = await chromium.launch(CHROMIUM);
    try {
        for (const test of option("--pictures") ? [takePictures] : [testDrainIsSeenAsItHappens, testUnfinishedRequestsStayOnTheScreen,
            testServerThatVanishesIsSaidToBeLost, testUpstreamsAreShown]) {
            const begun = Date.now();
            await test(browser);
            console.log(`ok ${test.name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
        }
    } finally {
        await browser.close();
    }
}

setTimeout(() => {
    console.error("page_test.js: not done after two minutes");
    process.exit(1);
}, 120000).unref();
main().catch((error) => {
    console.error(error);
    process.exit(1);
});
