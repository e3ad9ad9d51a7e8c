// Which statement texts are prepared on a connection, and under which name: a bounded cache, least recently used first out.

/// Names of prepared statements by text and parameter types.
struct StatementCache {
    struct Entry {
        let name: String
        let types: [PostgresType]
        var lastUse: UInt64

        /// NULL fits any type; a type that the server inferred (from NULL, at first) fits nothing else, since we do not know it.
        func accepts(_ parameters: [PostgresValue]) -> Bool {
            guard types.count == parameters.count else { return false }
            for index in types.indices {
                if case .null = parameters[index] { continue }
                if types[index] != parameters[index].type { return false }
            }
            return true
        }
    }

    let limit: Int
    private var entries: [String: [Entry]] = [:]
    private(set) var count = 0
    private var clock: UInt64 = 0
    private var serial: UInt64 = 0

    init(limit: Int) { self.limit = limit }

    /// The name under which this is prepared.
    mutating func name(_ text: String, _ parameters: [PostgresValue]) -> String? {
        guard let index = entries[text]?.firstIndex(where: { $0.accepts(parameters) }) else { return nil }
        clock += 1
        entries[text]?[index].lastUse = clock
        return entries[text]?[index].name
    }

    mutating func freshName() -> String {
        serial += 1
        return "z\(serial)"
    }

    mutating func insert(_ name: String, _ text: String, _ parameters: [PostgresValue]) {
        clock += 1
        count += 1
        entries[text, default: []].append(Entry(name: name, types: parameters.map(\.type), lastUse: clock))
    }

    mutating func remove(name: String) {
        for (text, list) in entries where list.contains(where: { $0.name == name }) {
            count -= 1
            let rest = list.filter { $0.name != name }
            entries[text] = rest.isEmpty ? nil : rest
            return
        }
    }

    /// Names to give up so that `more` fit, oldest first; never one of `kept`.
    func surplus(adding more: Int, keeping kept: Set<String>) -> [String] {
        let excess = count + more - limit
        guard excess > 0 else { return [] }
        return entries.values.joined().filter { !kept.contains($0.name) }
            .sorted { $0.lastUse < $1.lastUse }.prefix(excess).map(\.name)
    }
}
