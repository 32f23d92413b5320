import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cell, labelsOf, matchesFilter, sorted, visibleRows } from "./boards_list";
import type { Board } from "./state";

function board(serial: string, changes: Partial<Board["report"]> = {}): Board {
  return {
    worker: "lab",
    changedAt: 0,
    report: {
      serial,
      state: "ready",
      since: 0,
      reason: "",
      reservation: null,
      user: null,
      kind: null,
      chip: "rp2040",
      firmware: "icebus",
      firmware_version: "",
      port: "",
      virtual: false,
      progress: null,
      labels: {},
      retry: null,
      ...changes,
    },
  };
}

const serial = fc.stringMatching(/^[A-Z0-9]{1,6}$/);
const some = fc.uniqueArray(fc.record({ serial, user: fc.option(serial), since: fc.nat(1000) }), {
  selector: (each) => each.serial,
});

describe("given boards", () => {
  test.each(["serial", "-serial", "age", "-age", "holder", "-holder", "label:rack"])(
    "when they are sorted by %s, then the order does not depend on how they came",
    (by) => {
      fc.assert(
        fc.property(some, (each) => {
          const boards = each.map(({ serial: name, ...rest }) => board(name, rest));
          const order = sorted(boards, by).map((b) => b.report.serial);
          expect(sorted([...boards].reverse(), by).map((b) => b.report.serial)).toEqual(order);
          expect([...order].sort()).toEqual(boards.map((b) => b.report.serial).sort());
        }),
      );
    },
  );

  test("when they are sorted by holder, then free ones come last, either way", () => {
    const boards = [board("A"), board("B", { user: "bob" }), board("C", { user: "al" })];
    expect(sorted(boards, "holder").map((b) => cell(b, "holder"))).toEqual(["al", "bob", ""]);
    expect(sorted(boards, "-holder").map((b) => cell(b, "holder"))).toEqual(["bob", "al", ""]);
  });

  test.each([
    ["", true],
    ["e6 lab", true],
    ["rack=b", true],
    ["rack=a", false],
    ["holder=alice", true],
    ["holder=ali", false],
    ["worker=lab rack=b", true],
    ["nothing", false],
  ])("when %j is searched, then whether one is found is %s", (text, found) => {
    const one = board("E66", { user: "alice", labels: { rack: "b" } });
    expect(matchesFilter(one, { text, states: [] })).toBe(found);
  });

  test("when labels are asked for, then each is named once", () => {
    const labels = [
      board("A", { labels: { rack: "a", bay: "1" } }),
      board("B", { labels: { rack: "b" } }),
    ];
    expect(labelsOf(labels)).toEqual(["bay", "rack"]);
  });
});

test("given a long list, when it is scrolled anywhere, then what can be seen is in the page", () => {
  const pixels = fc.integer({ min: 0, max: 100_000 });
  fc.assert(
    fc.property(
      fc.nat(2000),
      pixels,
      fc.integer({ min: 1, max: 3000 }),
      (total, scrolled, height) => {
        const { first, last } = visibleRows(total, 34, scrolled, height);
        expect(first).toBeGreaterThanOrEqual(0);
        expect(last).toBeLessThanOrEqual(total);
        expect(first).toBeLessThanOrEqual(last);
        expect(last - first).toBeLessThanOrEqual(height / 34 + 18);
        const seen = Math.floor(scrolled / 34);
        if (seen < total) {
          expect(first).toBeLessThanOrEqual(seen);
          expect(last).toBeGreaterThan(seen);
        }
      },
    ),
  );
});
