// What the kernel knows of this process, under the names that every Prometheus client library uses.
import Foundation

/// Reads /proc at each scrape.
enum ProcessMetrics {
    /// Appends the `process_…` metrics; what cannot be read is left out.
    static func append(to text: inout String) {
        // Field 2 of stat is the program's name in parentheses and may hold blanks: count from behind it.
        if let stat = read("/proc/self/stat"), let end = stat.lastIndex(of: ")") {
            let fields = stat[stat.index(after: end)...].split(separator: " ").map { Double($0) ?? 0 }
            let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
            if fields.count > 21, ticks > 0 {
                let cpu = (fields[11] + fields[12]) / ticks
                add(
                    "process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", cpu, &text
                )
                let resident = fields[21] * Double(sysconf(Int32(_SC_PAGESIZE)))
                add("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", resident, &text)
                add("process_virtual_memory_bytes", "gauge", "Virtual memory in bytes.", fields[20], &text)
                add("process_threads", "gauge", "Number of threads.", fields[17], &text)
                if let boot = bootTime {
                    let start = boot + fields[19] / ticks
                    add(
                        "process_start_time_seconds", "gauge", "Start time in seconds since the epoch.",
                        start,
                        &text)
                }
            }
        }
        if let open = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count {
            add("process_open_fds", "gauge", "Number of open file descriptors.", Double(open), &text)
        }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            add("process_max_fds", "gauge", "Limit of open file descriptors.", Double(limit.rlim_cur), &text)
        }
    }

    private static let bootTime: Double? = read("/proc/stat")?
        .split(separator: "\n").first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst(6)) }

    private static func read(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

    private static func add(
        _ name: String, _ kind: String, _ help: String, _ value: Double, _ text: inout String
    ) {
        MetricsRegistry.appendHead(name, kind, help, to: &text)
        text.appendSample(name, "", prometheus(value))
    }
}
