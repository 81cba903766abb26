// Asks for the state once a second and shows it. Names come from clients: they are only ever set as text.
"use strict";

const PERIOD = 1000;
let before = null;

const at = (id) => document.getElementById(id);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};
const whole = (n) => Math.round(n).toLocaleString("en");
const span = (ms) =>
  ms < 1000 ? `${Math.round(ms)} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60000)} min`;

// A share of a limit. An attribute, for a style of its own would need a laxer policy.
const bar = (value, max, words, full, down) => {
  const box = make("div", `bar${full ? " full" : ""}${down ? " down" : ""}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("width", `${max > 0 ? Math.min(100, (100 * value) / max) : 0}%`);
  rect.setAttribute("height", "8");
  svg.append(rect);
  box.append(svg, make("span", "", words));
  return box;
};

const row = (cells) => {
  const line = make("tr");
  for (const [content, className] of cells) {
    const cell = make("td", className);
    cell.append(content instanceof Node ? content : document.createTextNode(content ?? ""));
    line.append(cell);
  }
  return line;
};

const fill = (id, rows, nothing) => {
  const body = at(id).tBodies[0];
  if (rows.length === 0) {
    const cell = make("td", "empty", nothing);
    cell.colSpan = 20;
    const line = make("tr");
    line.append(cell);
    rows = [line];
  }
  body.replaceChildren(...rows);
};

const figure = (name, value, hot) => {
  const box = make("div", `figure${hot ? " hot" : ""}`);
  box.dataset.name = name;
  box.append(make("b", "", value), make("span", "", name));
  return box;
};

const key = (tenant) => `${tenant.cluster} ${tenant.tenant}`;

function show(state) {
  const seconds = before ? Math.max(0.2, (state.now - before.now) / 1000) : 0;
  const rate = (now, then) => (seconds && then !== undefined ? Math.max(0, now - then) / seconds : 0);
  const known = new Map((before ? before.tenants : []).map((tenant) => [key(tenant), tenant]));
  const waiting = state.clusters.reduce((sum, cluster) => sum + cluster.waiting, 0);
  at("version").textContent = `${state.version}, up ${span(state.uptime_s * 1000)}`;
  at("figures").replaceChildren(
    figure("transactions/s", whole(rate(state.transactions, before?.transactions))),
    figure("switches of tenant/s", whole(rate(state.switches, before?.switches))),
    figure("clients", `${whole(state.clients)} of ${whole(state.clients_max)}`, state.clients >= 0.9 * state.clients_max),
    figure("clients that wait", whole(waiting), waiting > 0),
    figure("sessions pinned", whole(state.pinned), state.pinned > 0),
    figure("refused, in all", whole(state.refusals), rate(state.refusals, before?.refusals) > 0),
  );
  at("clusters").replaceChildren(
    ...state.clusters.map((cluster) => {
      const used = cluster.active + cluster.opening;
      const open = used + cluster.idle;
      const box = make("div", "cluster");
      box.append(
        make("b", cluster.down ? "bad" : "", cluster.down ? `${cluster.name}: logins fail` : cluster.name),
        bar(used, cluster.max, `${used} of ${cluster.max} servers busy`, open >= cluster.max && cluster.waiting > 0, cluster.down),
        make("span", "", `${cluster.idle} idle, ${cluster.opening} opening, ${cluster.waiting} clients wait`),
      );
      return box;
    }),
  );
  const tenants = state.tenants.map((tenant) => {
    const then = known.get(key(tenant));
    return { ...tenant, busy: rate(tenant.busy_us, then?.busy_us) / 1e6, per_second: rate(tenant.transactions, then?.transactions), refusing: rate(tenant.refusals, then?.refusals) };
  });
  tenants.sort((a, b) => b.waiting - a.waiting || b.busy - a.busy || b.servers - a.servers || (a.tenant < b.tenant ? -1 : 1));
  at("tenants-note").textContent = state.tenants_hidden
    ? `by who waits and by busy time; ${state.tenants_hidden} more are not shown`
    : "by who waits and by busy time";
  const most = Math.max(1, ...tenants.map((tenant) => tenant.busy));
  fill(
    "tenants",
    tenants.map((tenant) =>
      row([
        [make("b", "", tenant.tenant)],
        [tenant.state, tenant.state === "active" ? "" : "hot"],
        [bar(tenant.busy, most, tenant.busy.toFixed(2))],
        [bar(tenant.servers, tenant.servers_max, `${tenant.servers} of ${tenant.servers_max}`, tenant.servers >= tenant.servers_max)],
        [whole(tenant.per_second), "n"],
        [`${tenant.clients} of ${tenant.clients_max}`, "n"],
        [tenant.waiting, tenant.waiting ? "n hot" : "n"],
        [tenant.waits_for, "wrap"],
        [tenant.waiting ? span(tenant.wait_us / 1000) : "", "n"],
        [tenant.pinned || "", "n"],
        [tenant.refusals || "", tenant.refusing ? "n bad" : "n"],
      ]),
    ),
    "no tenant has clients",
  );
  fill(
    "pins",
    state.pins.map((pin) => row([[make("b", "", pin.tenant)], [pin.user], [pin.application], [pin.reason], [span(pin.seconds * 1000), "n"], [pin.client, "n"]])),
    "none",
  );
  fill(
    "servers",
    state.servers.map((server) =>
      row([
        [server.id, "n"], [server.pid, "n"], [server.cluster], [server.database], [server.user], [server.state],
        [make("b", "", server.tenant)], [server.for_ms === null ? "" : span(server.for_ms), "n"], [`${server.warm_count}: ${server.warm.join(", ")}${server.warm_count > server.warm.length ? " and more" : ""}`, "wrap"],
      ]),
    ),
    "none is open",
  );
  before = state;
}

async function look() {
  const alive = at("alive");
  try {
    const answer = await fetch("state.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const state = await answer.json();
    show(state);
    alive.textContent = state.serves ? "live" : "shutting down";
    alive.className = state.serves ? "" : "lost";
  } catch (error) {
    alive.textContent = `no answer (${error.message})`;
    alive.className = "lost";
  }
  setTimeout(look, PERIOD);
}

look();
