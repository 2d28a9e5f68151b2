// Numbers, sizes, times and months as people read them. What is missing is a dash.

const NONE = "–";
const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/** A number with separators; a text stays as it is. */
export const number = (value) => (value == null ? NONE : typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 4 }) : String(value));

/** A short number for the axis of a chart, such as 1.2M. */
export const short = (value) => (value == null ? NONE : Number(value).toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 }));

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

export function bytes(value) {
  if (value == null) return NONE;
  for (const [unit, name] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
    if (value >= unit) return `${(value / unit).toLocaleString("en", { maximumSignificantDigits: 3 })} ${name}`;
  return `${number(value)} B`;
}

export function seconds(value) {
  if (value == null) return NONE;
  if (value >= 5400) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 90) return `${(value / 60).toFixed(1)} min`;
  return `${value >= 10 ? Math.round(value) : Number(value.toFixed(2))} s`;
}

/** "2023-01-05 14:02 UTC" */
export const time = (iso) => (iso ? `${new Date(iso).toISOString().slice(0, 16).replace("T", " ")} UTC` : NONE);

/** "3 minutes ago", relative to `now`, which is the server's: the browser's clock may be wrong. A worker's clock may be ahead. */
export function ago(iso, now) {
  if (!iso) return NONE;
  const past = (new Date(now) - new Date(iso)) / 1000;
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]])
    if (past >= unit) return words.format(-Math.round(past / unit), name);
  return "just now";
}

/** "January 2023" */
export const monthName = (month) => `${MONTHS[Number(month.slice(5, 7)) - 1]} ${month.slice(0, 4)}`;
export const shortMonths = MONTHS.map((name) => name.slice(0, 3));

/** The month `by` months after this one. */
export function later(month, by) {
  const count = Number(month.slice(0, 4)) * 12 + Number(month.slice(5, 7)) - 1 + by;
  return `${Math.floor(count / 12)}-${String((count % 12) + 1).padStart(2, "0")}`;
}

/** Months without a gap in them: [["2023-01", "2023-03"], ["2023-05", "2023-05"]]. */
export function spans(months) {
  const found = [];
  for (const month of [...months].sort()) {
    const last = found.at(-1);
    if (last && later(last[1], 1) === month) last[1] = month;
    else found.push([month, month]);
  }
  return found;
}

/** "2023-01 to 2023-03, 2023-05" */
export const spanNames = (months) => spans(months).map(([first, last]) => (first === last ? first : `${first} to ${last}`)).join(", ");
