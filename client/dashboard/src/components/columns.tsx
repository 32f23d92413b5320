/** Which columns the boards have: chosen by each person, remembered by the browser. */

import { useState } from "preact/hooks";
import { COLUMNS, DEFAULT_COLUMNS, title } from "../farm/boards_list";

const KEPT = "icebus.columns";

function remembered(): readonly string[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEPT) ?? "null");
    if (Array.isArray(kept) && kept.every((each) => typeof each === "string")) {
      const known = kept.filter(
        (each) => each.startsWith("label:") || COLUMNS.some((column) => column === each),
      );
      if (known.includes("serial")) return known;
    }
  } catch {
    // Somebody else wrote there, or nothing may be kept: the usual columns do.
  }
  return DEFAULT_COLUMNS;
}

export function useColumns(): [readonly string[], (columns: readonly string[]) => void] {
  const [columns, setColumns] = useState(remembered);
  return [
    columns,
    (next) => {
      setColumns(next);
      try {
        localStorage.setItem(KEPT, JSON.stringify(next));
      } catch {
        // They hold for this visit then.
      }
    },
  ];
}

interface Props {
  columns: readonly string[];
  labels: readonly string[];
  onChange(columns: readonly string[]): void;
}

export function ColumnChooser({ columns, labels, onChange }: Props) {
  const all = [...COLUMNS, ...labels.map((label) => `label:${label}`)];
  const toggle = (column: string): void => {
    // In the order in which they are offered, whatever the order in which they were chosen.
    const chosen = columns.includes(column)
      ? columns.filter((each) => each !== column)
      : [...columns, column];
    onChange(all.filter((each) => chosen.includes(each)));
  };
  return (
    <details class="chooser">
      <summary>Columns</summary>
      <fieldset>
        <legend class="hidden">Columns that are shown</legend>
        {all.map((column) => (
          <label key={column}>
            <input
              type="checkbox"
              checked={columns.includes(column)}
              disabled={column === "serial"}
              onChange={() => toggle(column)}
            />
            {title(column)}
            {column.startsWith("label:") && <span class="dim"> label</span>}
          </label>
        ))}
        <button type="button" onClick={() => onChange(DEFAULT_COLUMNS)}>
          Usual columns
        </button>
      </fieldset>
    </details>
  );
}
