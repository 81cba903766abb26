// Opens the dashboard in a real browser and prints what it shows, as JSON. Nothing sleeps: it waits for what is on the page.
// node dashboard.js <url> <tenant that must have a rate> [screenshot.png]
const { chromium } = require("playwright-core");

(async () => {
  const [url, tenant, screenshot] = process.argv.slice(2);
  const browser = await chromium.launch({
    executablePath: process.env.TENANTRY_TEST_CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1400, height: 900 }, colorScheme: "light" });
    const problems = [];
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(error.message));
    const elsewhere = [];
    page.on("request", (request) => new URL(request.url()).origin === new URL(url).origin || request.url().startsWith("data:") || elsewhere.push(request.url()));
    await page.goto(url);
    await page.locator("#alive", { hasText: "live" }).waitFor();
    // A second look, so that there is a rate.
    await page.waitForFunction((name) => {
      const rows = [...document.querySelectorAll("#tenants tbody tr")];
      const row = rows.find((line) => line.cells[0].textContent === name);
      return row && Number(row.cells[4].textContent.replaceAll(",", "")) > 0;
    }, tenant);
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    const table = (id) => page.$$eval(`#${id} tbody tr`, (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    const figures = await page.$$eval(".figure", (all) => Object.fromEntries(all.map((one) => [one.dataset.name, one.querySelector("b").textContent])));
    const clusters = await page.$$eval(".cluster", (all) => all.map((one) => one.textContent));
    console.log(JSON.stringify({ figures, clusters, tenants: await table("tenants"), pins: await table("pins"), servers: await table("servers"), problems, elsewhere }));
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
