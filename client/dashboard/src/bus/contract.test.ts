/** The page reads what the farm's documents say that components write. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { apply, emptyState, type Part } from "../farm/state";
import { Account, check, FarmEvent, History, Outcome, Reply } from "./messages";
import * as t from "./topics";

const page = readFileSync(new URL("../../../../docs/topics.md", import.meta.url), "utf8");

/** The examples that stand in the page of topics, as `mosquitto_sub -v` prints them. */
const examples = [...page.matchAll(/```mqtt\n([\s\S]*?)```/g)]
  .flatMap(([, block = ""]) => block.trim().split("\n"))
  .map((line) => {
    const space = line.indexOf(" ");
    return { topic: line.slice("icebus/v1/".length, space), payload: line.slice(space + 1) };
  });

describe("given the examples in docs/topics.md", () => {
  test("there are some", () => expect(examples.length).toBeGreaterThan(50));

  test.each([...t.READ, t.REPLY, t.OPERATION, t.ADMIN, t.BROKER_OPERATION, t.CALL])(
    "when $template is looked for, then the contract has it",
    ({ template }) => expect(page).toContain(`\`${template}\``),
  );

  test.each(examples.filter(({ topic }) => t.readTopic(topic) !== null))(
    "when $topic comes, then it is read",
    ({ topic, payload }) => {
      const state = emptyState();
      const part = apply(state, { topic, payload: new TextEncoder().encode(payload), at: 1 });
      expect([...state.unreadable.values()]).toEqual([]);
      expect(part).not.toBe("unreadable" satisfies Part);
    },
  );

  test.each(examples.filter(({ topic }) => t.parse(t.EVENT, topic) !== null))(
    "when the event on $topic comes, then it is read",
    ({ topic, payload }) => {
      const event = check(FarmEvent, JSON.parse(payload));
      expect(event.at).toBeGreaterThan(Date.UTC(2020, 0));
      if (/\/(results|failures)$/.test(topic))
        expect(check(Outcome, event.data).batch).not.toBe("");
    },
  );

  test.each(examples.filter(({ topic }) => t.parse(t.REPLY, topic) !== null))(
    "when the answer on $topic comes, then it is read",
    ({ payload }) => {
      const reply = check(Reply, JSON.parse(payload));
      expect(reply.ok !== undefined || reply.error != null).toBe(true);
      const entries = (reply.ok as { entries?: unknown } | undefined)?.entries;
      if (entries !== undefined) expect(check(History, reply.ok).entries).toHaveLength(1);
    },
  );
});

test("given an account's name and role only, when whoami answers, then it is read", () => {
  expect(check(Account, { user: "alice", role: "user" })).toEqual({
    user: "alice",
    role: "user",
    invited: false,
    expires: null,
  });
});
