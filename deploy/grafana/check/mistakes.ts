// Mistakes in dashboards, each of which must be found: one that passes fails the check.

import type { OurDashboard } from "./dashboard.ts";

const target = { refId: "A", expr: "up" };
const stat = { type: "stat" as const, targets: [target], fieldConfig: { defaults: {}, overrides: [] } };
const lines = { ...stat, type: "timeseries" as const };
const good = { schemaVersion: 39, title: "Good", panels: [stat, lines] };

export const none: OurDashboard = good;
export const all: OurDashboard[] = [
  // @ts-expect-error: a field that no dashboard has
  { ...good, editabel: true },
  // @ts-expect-error: a value that the field has not
  { ...good, graphTooltip: 7 },
  // @ts-expect-error: a variable of no kind
  { ...good, templating: { list: [{ name: "relay", type: "querry" }] } },
  // @ts-expect-error: a panel of no kind
  { ...good, panels: [{ ...stat, type: "stats" }] },
  // @ts-expect-error: an option that the panel has not
  { ...good, panels: [{ ...stat, options: { colourMode: "value" } }] },
  // @ts-expect-error: an option of another panel
  { ...good, panels: [{ ...stat, options: { legend: { showLegend: true } } }] },
  // @ts-expect-error: a value that the option has not
  { ...good, panels: [{ ...lines, options: { tooltip: { mode: "many", sort: "desc" } } }] },
  // @ts-expect-error: a look that lines have not
  { ...good, panels: [{ ...lines, fieldConfig: { defaults: { custom: { fillOpacitty: 15 } }, overrides: [] } }] },
  // @ts-expect-error: a threshold of no mode
  { ...good, panels: [{ ...stat, fieldConfig: { defaults: { thresholds: { mode: "low", steps: [] } }, overrides: [] } }] },
  // @ts-expect-error: a query without its expression
  { ...good, panels: [{ ...stat, targets: [{ refId: "A", exrp: "up" }] }] },
  // @ts-expect-error: a place that is no number
  { ...good, panels: [{ ...stat, gridPos: { h: 4, w: "24", x: 0, y: 0 } }] },
];
