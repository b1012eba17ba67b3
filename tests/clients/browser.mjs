/** A real browser that does what it is told on stdin, a JSON object a line: node browser.mjs chromium|firefox EXECUTABLE PROFILE */
import { createInterface } from 'node:readline';
import puppeteer from 'puppeteer-core';
import { watch } from './watch.mjs';

const [kind, executablePath, profile] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));

const CHROMIUM = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--no-proxy-server'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
];
const FIREFOX = { // whatever would reach for the network by itself
  'network.proxy.type': 0, 'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false,
  'app.update.enabled': false, 'extensions.update.enabled': false, 'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.telemetry.enabled': false, 'browser.safebrowsing.malware.enabled': false, 'browser.safebrowsing.phishing.enabled': false,
  'services.settings.server': 'data:,', 'browser.region.update.enabled': false, 'network.dns.disablePrefetch': true,
};
const browser = await puppeteer.launch({
  browser: kind === 'firefox' ? 'firefox' : 'chrome',
  executablePath,
  userDataDir: profile,
  acceptInsecureCerts: true,
  headless: true,
  args: kind === 'firefox' ? [] : CHROMIUM,
  extraPrefsFirefox: FIREFOX,
});
const page = await browser.newPage();
await page.exposeFunction('report', say);

const TASKS = {
  goto: ({ url }) => page.goto(url),
  reload: () => page.reload(),
  type: ({ at, text }) => page.type(at, text),
  click: ({ at }) => page.click(at),
  until: ({ expression, limit }) => page.waitForFunction(expression, { timeout: limit, polling: 'mutation' }),
  evaluate: ({ expression }) => page.evaluate(expression),
  watch: ({ number, url, closeOn }) => {
    const given = `EventSource, ${JSON.stringify(url)}, ${JSON.stringify(closeOn)}`;
    return page.evaluate(`(${watch})(${given}, (line) => report({ watch: ${number}, ...line })); null`);
  },
};
say({ ready: await browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const { task, reply, ...given } = JSON.parse(line);
  try {
    const value = await TASKS[task](given);
    say({ reply, value: task === 'evaluate' ? value : null });
  } catch (error) {
    say({ reply, failure: error.message });
  }
}
await browser.close();
process.exit();
