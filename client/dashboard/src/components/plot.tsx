/** A plot that follows its data, its width and the colours of the page. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { axisTime } from "../format";
import "uplot/dist/uPlot.min.css";

export interface Series {
  readonly label: string;
  /** How it is drawn: points, a line, bars from zero, or minute by minute from zero, with gaps. */
  readonly as: "points" | "line" | "bars" | "minutes";
  /** Of the page's style sheet; else each series has the next one. */
  readonly colour?: string;
}

interface Props {
  /** What the plot shows, for those who don't see it. */
  readonly label: string;
  readonly data: uPlot.AlignedData;
  readonly series: readonly Series[];
  /** Whether x is a time in seconds. */
  readonly time: boolean;
  readonly height?: number;
  /** From which x to which; else as the data. */
  readonly range?: readonly [number, number];
}

/** A colour of the page's style sheet. */
function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const COLOURS = ["--accent", "--good", "--busy", "--held", "--bad"];

function drawn({ as, label, colour: own }: Series, index: number): uPlot.Series {
  const stroke = colour(own ?? COLOURS[index % COLOURS.length] ?? "--accent");
  switch (as) {
    case "points":
      return { label, stroke, paths: () => null, points: { show: true, size: 4, fill: stroke } };
    case "bars": {
      const paths = uPlot.paths.bars?.({ size: [0.95, 60], align: 1 });
      return { label, stroke, fill: stroke, ...(paths && { paths }), points: { show: false } };
    }
    case "minutes": {
      const points = { show: false, filter: lonely, size: 4, fill: stroke };
      return { label, stroke, width: 1.5, fill: `${stroke}22`, points };
    }
    case "line": {
      const points = { show: false, filter: lonely, size: 4, fill: stroke };
      return { label, stroke, width: 1.5, points, spanGaps: true };
    }
  }
}

/** Values that no line leads to or from: without a point nobody would see them. */
function lonely(plot: uPlot, series: number): number[] {
  const values = plot.data[series] ?? [];
  const known = (index: number): boolean => (values[index] ?? null) !== null;
  return [...values.keys()].filter((n) => known(n) && !known(n - 1) && !known(n + 1));
}

/** Steps between the marks of what is counted: there is no half of one. */
const WHOLE = [1, 2, 5]
  .flatMap((each) => [0, 1, 2, 3, 4, 5, 6].map((power) => each * 10 ** power))
  .sort((a, b) => a - b);

/** Where an axis from zero ends: there is no half of what is counted, but there is of a rate. */
function top(high: number, counts: boolean): number {
  if (counts) return Math.max(1, high);
  return high > 0 ? high * 1.1 : 1;
}

/** Seconds that an axis of times is long at least. */
const SHORTEST = 10;

function apart(from: number, to: number): [number, number] {
  const missing = Math.max(0, SHORTEST - (to - from)) / 2;
  return [from - missing, to + missing];
}

/** Drawn anew when the colours change. */
function useDark(): boolean {
  const [dark, setDark] = useState(matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = (): void => setDark(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  return dark;
}

export function Plot({ label, data, series, time, range, height = 220 }: Props) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shownRange = useRef<[number, number] | null>(null);
  shownRange.current = range === undefined ? null : [...range];
  const dark = useDark();
  const shape = series.map((each) => `${each.as}:${each.label}`).join("|");
  useLayoutEffect(() => {
    const place = element.current;
    if (place === null) return;
    const axis: uPlot.Axis = {
      stroke: colour("--dim"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1 },
      font: `11px ${getComputedStyle(place).fontFamily}`,
    };
    const counts = series.some((each) => each.as === "bars");
    const minutes = series.some((each) => each.as === "minutes");
    const xRange = (plot: uPlot, from: number, to: number): [number, number] => {
      const moments = plot.data[0];
      // Of one moment the library would show years.
      return shownRange.current ?? apart(from, moments.length === 1 ? from : to);
    };
    const made = new uPlot(
      {
        width: place.clientWidth,
        height,
        scales: {
          x: { time, ...((range || time) && { range: xRange }) },
          y: counts || minutes ? { range: (_plot, _low, high) => [0, top(high, counts)] } : {},
        },
        axes: [
          time
            ? {
                ...axis,
                values: (_plot, at, _axis, _space, step) => at.map((each) => axisTime(each, step)),
              }
            : axis,
          { ...axis, size: 64, ...(counts && { incrs: WHOLE }), ...(minutes && { space: 24 }) },
        ],
        series: [{}, ...series.map(drawn)],
        legend: { show: series.length > 1, live: false },
        // What has a range is not zoomed into by hand, but by asking for less.
        cursor: { drag: { x: range === undefined, y: false } },
      },
      data,
      place,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (place.clientWidth > 0) made.setSize({ width: place.clientWidth, height });
    });
    observer.observe(place);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, time, height, dark]);
  useEffect(() => plot.current?.setData(data), [data, range]);
  return <div class="plot" role="img" aria-label={label} ref={element} />;
}
