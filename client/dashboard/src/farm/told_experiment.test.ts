import { describe, expect, test } from "vitest";
import type { ToldExperiment } from "../bus/messages";
import type { Point } from "./experiment";
import { best, bins, compared, current, overTime, standing, toldOf } from "./told_experiment";

const NUMBER: ToldExperiment["numbers"][number] = {
  name: "pulses",
  lowest: { value: 1, bitstream: "low.bin", serial: "A1", at: 1000 },
  highest: { value: 9, bitstream: "high.bin", serial: "A2", at: 2000 },
  boards: { A1: { count: 2, mean: 3, deviation: null, lowest: 1, highest: 5 } },
  histogram: { lowest: 0, width: 4, counts: [1, 1, 1] },
  spans: [
    { at: 0, count: 2, mean: 5, lowest: 1, highest: 9 },
    { at: 10_000, count: 1, mean: 5, lowest: 5, highest: 5 },
  ],
  span: 10,
};

function told(
  reservation: string,
  at: number,
  run: Partial<ToldExperiment["run"]> = {},
): ToldExperiment {
  return {
    reservation,
    kind: "pulsecount",
    began: 0,
    at,
    runs: 1,
    run: { began: 0, ended: null, results: 8, failures: 2, total: 100, ...run },
    results: 8,
    failures: 2,
    failed: { A3: 2 },
    numbers: [NUMBER],
  };
}

function point(at: number, pulses: number): Point {
  const names = { serial: "A9", reservation: "r", batch: "b", bitstream: "x.bin" };
  return { at, ...names, evaluation: String(at), values: { pulses } };
}

describe("given experiments that were told", () => {
  test("when one is chosen, then what was told last of it is shown", () => {
    const [early, late] = [told("r1", 5), told("r1", 7)];
    expect(toldOf([late, early, told("r2", 9)], "r1")).toBe(late);
  });

  test("when another is chosen, then there is none", () =>
    expect(toldOf([told("r1", 5)], "r9")).toBeNull());
});

describe("given experiments of which none is chosen", () => {
  const nothing = { told: [], seen: new Map(), busy: new Set<string>(), live: new Set<string>() };
  const before = { ...nothing, told: [{ ...told("r1", 900), began: 100 }] };

  test("when there is none, then none is shown", () => expect(current(nothing)).toBe(""));

  test("when one is told of, then that is shown", () => expect(current(before)).toBe("r1"));

  test.each([
    ["waits on boards", { busy: new Set(["r2"]) }],
    ["has measured something", { seen: new Map([["r2", { began: 800 }]]) }],
  ])("when a new one %s, then it is shown before its program tells of it", (_, more) => {
    expect(current({ ...before, ...more, live: new Set(["r1", "r2"]) })).toBe("r2");
    expect(current({ ...before, ...more, live: new Set(["r2"]) })).toBe("r2");
  });

  test("when two go on, then it is the same one whichever tells of itself", () => {
    const later = (at: number) => ({ ...told("r2", at), began: 200 });
    const both = new Set(["r1", "r2"]);
    for (const at of [850, 950])
      expect(current({ ...nothing, told: [...before.told, later(at)], live: both })).toBe("r2");
  });

  test("when the one that began last is over, then one that goes on is shown", () => {
    const over = { ...told("r2", 999), began: 500 };
    expect(current({ ...before, told: [...before.told, over], live: new Set(["r1"]) })).toBe("r1");
  });
});

describe("given a run", () => {
  test.each([
    ["under way", {}, null, { done: 10, share: 0.1, rate: 1, left: 90_000 }],
    ["that is seen to be faster now", {}, 9, { rate: 9, left: 10_000 }],
    ["without an end that is known", { total: null }, null, { share: null, left: null }],
    ["that has ended", { ended: 5000 }, null, { rate: 2, left: null }],
    [
      "of nothing",
      { total: 0, results: 0, failures: 0 },
      null,
      { share: 1, rate: null, left: null },
    ],
  ])("when it is one %s, then its standing says so", (_, run, rate, expected) =>
    expect(standing(told("r1", 10_000, run), rate)).toMatchObject(expected),
  );
});

describe("given what was told and what was seen", () => {
  const seen = [point(9000, 3), point(12_000, 11)];

  test("then what came before is summed up, and the best is of both", () =>
    expect(overTime(NUMBER, seen, "pulses", true)).toEqual({
      at: [5, 9, 12],
      values: [null, 3, 11],
      means: [5, null, null],
      best: [9, 9, 11],
    }));

  test("then the best is named", () => {
    expect(best(NUMBER, seen, "pulses", true)?.serial).toBe("A9");
    expect(best(NUMBER, seen, "pulses", false)?.bitstream).toBe("low.bin");
    expect(best(null, [], "pulses", true)).toBeNull();
  });

  test("then bins are those that were told, or of what was seen", () => {
    expect(bins(NUMBER, [1]).edges).toEqual([0, 4, 8, 12]);
    expect(bins(null, [1, 1]).counts).toEqual([2]);
  });

  test("then boards that only failed are compared, too", () =>
    expect(compared(NUMBER, { A3: 2 }).map(({ serial, failures }) => [serial, failures])).toEqual([
      ["A1", 0],
      ["A3", 2],
    ]));
});
