// The reference page of all settings, written from the table so that it cannot fall behind.

/// Renders `docs/configuration.md`.
public enum SettingsReference {
    private static let groups: [(prefix: String, title: String)] = [
        ("node", "Every node"), ("control", "Control database"), ("shard", "Ledger shards"), ("edge", "Edge"),
        ("worker", "Worker"), ("delivery", "Delivery"), ("rulesets", "Rulesets"),
        ("scan", "Scans of recipient hosts"), ("dns", "DNS"),
        ("policy", "MTA-STS policies"), ("nta", "NTA 7516"), ("api", "API"),
        ("metrics", "Metrics and readiness"), ("keyring", "Key service"), ("keys", "Keys"),
        ("client", "Operator's commands"), ("log", "Log"),
    ]

    /// The page, as it stands in the repository.
    public static func markdown() -> String {
        var page = """
            # Configure a node

            <!-- Written from the table in Sources/Settings: ZEGEL_TEST_WRITE=1 swift test --filter SettingsReference -->

            Settings are read once, at start, from these sources; a later one wins:

            1. the defaults below;
            2. the YAML file given with `--config FILE` (or `ZEGEL_CONFIG`), dotted (`edge.listen: …`) or nested;
            3. environment variables: `ZEGEL_` and the key in upper case with `_` for each dot: `ZEGEL_EDGE_LISTEN`;
            4. `--set key=value`, any number of times.

            An unknown key is an error, and so is a variable `ZEGEL_…` that is no key; exempt are `ZEGEL_CONFIG`,
            `ZEGEL_DIR` (the folder of a local cluster), `ZEGEL_PATRONI` (the program) and what begins with `ZEGEL_TEST_`. A broken configuration ends
            the process with status 78 and one line: `file:line: key: what is wrong; what to do`.

            `--check` prints every key, its value and where it came from, and ends; secrets are shown as `(set)`.

            - **duration**: numbers with `ms`, `s`, `m`, `h` or `d`: `250ms`, `15s`, `1h30m`, `5d`.
            - **size**: bytes, or a number with `KB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`, `GiB` (of 1024).
            - **list**: items separated by commas (`shard.dsns`: by semicolons), or a YAML sequence; pairs `a=b` also as a
              YAML mapping. An IPv6 address with a port stands in brackets: `[::1]:25`.

            """
        for group in groups {
            let entries = Keys.entries.filter { $0.name.hasPrefix(group.prefix + ".") }
            guard !entries.isEmpty else { continue }
            page +=
                "\n## \(group.title)\n\n| key | type | default | limits | meaning |\n|---|---|---|---|---|\n"
            for entry in entries {
                let fallback = entry.defaultText.map { $0.isEmpty ? "empty" : "`\($0)`" } ?? "none"
                let summary = entry.summary + (entry.isSecret ? " Secret." : "")
                page +=
                    "| `\(entry.name)` | \(entry.type) | \(fallback) | \(entry.limits ?? "") | \(summary) |\n"
            }
        }
        return page
    }

    /// Whether every key of the table appears on the page.
    static var coversEveryKey: Bool {
        Keys.entries.allSatisfy { entry in groups.contains { entry.name.hasPrefix($0.prefix + ".") } }
    }
}
