// The one owner of libunbound's `ub_ctx`: the only file here that says OpaquePointer. It is made, used and freed
// by one thread (`UnboundThread`); libunbound does its work on a thread of its own behind it.
//
// The order of settings matters: nothing can be set once `ub_ctx_zone_remove` has run, and all of `.test` is a
// built-in NXDOMAIN until that zone is removed (measured with 1.17.1).
import CLibUnbound
import Foundation

/// A lookup's result as libunbound gave it, copied out of its memory.
struct UnboundResult: Sendable {
    var records: [[UInt8]] = []
    /// The whole answer as it came, signatures included.
    var packet: [UInt8] = []
    var canonicalName: String?
    var rcode: Int32
    var isNXDomain: Bool
    var isSecure: Bool
    var isBogus: Bool
    var whyBogus: String?
    var ttl: UInt32
    /// A code of `enum ub_ctx_err` when there is no result at all, else 0.
    var error: Int32
    /// Whether records are left out of it (RFC 1035 §4.1.1, TC).
    var isTruncated: Bool { packet.count > 2 && packet[2] & 0x02 != 0 }

    init(error: Int32) {
        self.error = error
        (self.rcode, self.isNXDomain, self.isSecure, self.isBogus, self.ttl) = (2, false, false, false, 0)
    }

    fileprivate init(_ result: ub_result) {
        self.error = 0
        self.rcode = result.rcode
        self.isNXDomain = result.nxdomain != 0
        self.isSecure = result.secure != 0
        self.isBogus = result.bogus != 0
        self.whyBogus = result.why_bogus.map { String(cString: $0) }
        self.canonicalName = result.canonname.map { String(cString: $0) }
        self.ttl = UInt32(clamping: result.ttl)
        if let packet = result.answer_packet, result.answer_len > 0 {
            self.packet = Array(UnsafeRawBufferPointer(start: packet, count: Int(result.answer_len)))
        }
        guard result.havedata != 0, let data = result.data, let lengths = result.len else { return }
        var index = 0
        while let item = data[index] {
            let octets = UnsafeRawBufferPointer(start: item, count: Int(lengths[index]))
            self.records.append(Array(octets))
            index += 1
        }
    }
}

/// Where results arrive while `process()` runs.
final class UnboundQuery {
    let identifier: UInt64
    fileprivate(set) var asyncIdentifier: Int32 = 0
    fileprivate(set) var result: UnboundResult?
    fileprivate unowned let context: UnboundContext

    fileprivate init(identifier: UInt64, context: UnboundContext) {
        self.identifier = identifier
        self.context = context
    }
}

/// A libunbound context. Not Sendable: one thread owns it.
final class UnboundContext {
    private let context: OpaquePointer
    /// Queries whose result came in during the last `process()`.
    private var finished: [UnboundQuery] = []

    init(_ configuration: DNSConfiguration) throws(DNSConfigurationError) {
        guard let context = ub_ctx_create() else {
            throw DNSConfigurationError(reason: "libunbound has no memory for a context")
        }
        self.context = context
        ub_ctx_debugout(context, nil)
        for (name, value) in Self.options(configuration) {
            try check(ub_ctx_set_option(context, name, value), "option \(name) \(value)")
        }
        for forwarder in configuration.forwarders {
            try check(ub_ctx_set_fwd(context, forwarder.description), "forwarder \(forwarder)")
        }
        if case .file(let path) = configuration.trustAnchor {
            guard FileManager.default.isReadableFile(atPath: path) else {
                throw DNSConfigurationError(reason: "trust anchor file \(path) cannot be read")
            }
            try check(ub_ctx_add_ta_file(context, path), "trust anchor \(path)")
        }
        try check(ub_ctx_async(context, 1), "asynchronous mode")
        try check(ub_ctx_zone_remove(context, "test."), "the settings together; is the trust anchor sound?")
    }

    deinit { ub_ctx_delete(context) }

    /// Readable when `process()` has something to do.
    var fileDescriptor: Int32 { ub_fd(context) }

    /// Starts a lookup in class IN. The query must be kept until it is finished or cancelled.
    func start(_ identifier: UInt64, name: String, type: DNSRecordType) -> UnboundQuery? {
        let query = UnboundQuery(identifier: identifier, context: self)
        let code = ub_resolve_async(
            context, name, Int32(type.rawValue), 1, Unmanaged.passUnretained(query).toOpaque(),
            { argument, error, result in
                guard let argument else { return }
                let query = Unmanaged<UnboundQuery>.fromOpaque(argument).takeUnretainedValue()
                query.result = result.map { UnboundResult($0.pointee) } ?? UnboundResult(error: error)
                ub_resolve_free(result)
                query.context.finished.append(query)
            }, &query.asyncIdentifier)
        return code == 0 ? query : nil
    }

    /// Gives up a lookup: its callback will not run.
    func cancel(_ query: UnboundQuery) {
        ub_cancel(context, query.asyncIdentifier)
    }

    /// Takes in what is ready, without waiting.
    func process() -> [UnboundQuery] {
        ub_process(context)
        defer { finished.removeAll() }
        return finished
    }

    private func check(_ code: Int32, _ what: String) throws(DNSConfigurationError) {
        guard code != 0 else { return }
        throw DNSConfigurationError(reason: "libunbound: \(what): \(String(cString: ub_strerror(code)))")
    }

    private static func options(_ configuration: DNSConfiguration) -> [(String, String)] {
        var options = [
            ("verbosity:", "0"), ("use-syslog:", "no"),
            // A forwarder that was away is asked again soon, not after 15 minutes.
            ("infra-host-ttl:", "30"), ("infra-keep-probing:", "yes"), ("infra-cache-numhosts:", "10000"),
            ("edns-buffer-size:", "1232"), ("cache-max-ttl:", "86400"), ("val-bogus-ttl:", "30"),
            ("rrset-cache-size:", String(configuration.cacheBytes)),
            ("msg-cache-size:", String(configuration.cacheBytes / 2)),
            ("key-cache-size:", String(configuration.cacheBytes / 4)),
            ("neg-cache-size:", String(configuration.cacheBytes / 4)),
            ("outgoing-range:", String(configuration.concurrentQueries * 2)),
            // Two, the library's own choice, is little where answers are large.
            ("outgoing-num-tcp:", "32"),
            ("num-queries-per-thread:", String(configuration.concurrentQueries * 4)),
        ]
        if configuration.forwarders.contains(where: \.address.isLoopback) {
            options.append(("do-not-query-localhost:", "no"))
        }
        return options
    }
}
