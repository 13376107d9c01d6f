// What a dashboard of ours is: Grafana's published types, as JSON has them.
//
// Grafana's type of a panel leaves its options open, and its queries. Ours are bound to the types of
// the panels we use, and to the query of Prometheus that each target is.

import type {
  Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel, RowPanel, TableOptions,
} from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** A type as JSON has it: enumerations of texts are texts. */
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

/** Grafana publishes no type of it with its schema; these are the fields that we use. */
interface PrometheusQuery extends DataQuery {
  expr: string;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  legendFormat?: string;
}

/** Options left out are Grafana's own; none are there that it does not know. */
interface Of<Type extends string, Options, Custom = Record<string, never>>
  extends Omit<Panel, "type" | "options" | "targets" | "fieldConfig"> {
  type: Type;
  options?: Partial<Options>;
  targets: PrometheusQuery[];
  fieldConfig: Omit<FieldConfigSource, "defaults"> & {
    defaults: Omit<FieldConfig, "custom"> & { custom?: Partial<Custom> };
  };
}

type Ours =
  | Of<"stat", stat.Options>
  | Of<"table", TableOptions, table.FieldConfig>
  | Of<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | (RowPanel & { panels: never[] });

export type OurDashboard = Json<Omit<Dashboard, "panels"> & { panels: Ours[] }>;
