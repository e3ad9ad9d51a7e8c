// The owner of an nghttp2_session: HTTP/2 (RFC 9113) as a client, one exchange at a time, without any I/O. Octets go in by
// `feed` and out by `takeOutput`; the outcome of an exchange is there once it is there.
//
// One exchange at a time on purpose: nobody's answer waits behind another's, what ends one exchange may end its
// connection, and the bounds of an exchange are the bounds of its connection.

import CNGHTTP2
import NIOCore

/// One HTTP/2 connection. Used from one thread at a time.
final class HTTP2Session {
    private let session: OpaquePointer
    private var assembly: ResponseAssembly?
    private var stream: Int32 = 0
    /// What of the request's body is not yet framed.
    private var body: ArraySlice<UInt8> = []
    private var isGoingAway = false
    /// With which error this side has said GOAWAY.
    private var farewell: String?
    /// Whether frames of the answer have come.
    private var hasAnswer = false
    /// The answer is whole; its stream may have to end yet.
    private var message: ResponseAssembly.Message?
    /// Why the current exchange or the connection fails: the first cause.
    private var failure: HTTPClientError?
    /// The outcome of the current exchange, until it is taken.
    private var outcome: ExchangeOutcome?

    /// Begins a connection: `takeOutput` has its preface.
    init() throws(HTTPClientError) {
        let failed = HTTPClientError(.protocolError, "no memory for an HTTP/2 session")
        var callbacks: OpaquePointer?
        var option: OpaquePointer?
        guard nghttp2_session_callbacks_new(&callbacks) == 0, nghttp2_option_new(&option) == 0 else {
            nghttp2_session_callbacks_del(callbacks)
            throw failed
        }
        defer {
            nghttp2_session_callbacks_del(callbacks)
            nghttp2_option_del(option)
        }
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, onBeginHeaders)
        nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader)
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData)
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, onFrame)
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onStreamClose)
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, onFrameSent)
        // Ended streams are not remembered; answers to pings and settings that the peer does not take are few.
        nghttp2_option_set_no_closed_streams(option, 1)
        nghttp2_option_set_max_outbound_ack(option, 64)
        nghttp2_option_set_max_reserved_remote_streams(option, 0)

        var session: OpaquePointer?
        // nghttp2 calls back only from within calls of this object's own methods, so it need not be retained; the pointer
        // to it is set once it exists.
        guard nghttp2_session_client_new2(&session, callbacks, nil, option) == 0, let session else {
            throw failed
        }
        self.session = session
        nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
        let settings = [
            (NGHTTP2_SETTINGS_ENABLE_PUSH, 0),
            (NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0),
            (NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2Session.window),
            (NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTPLimits.maximumHeaderBytes),
        ].map {
            nghttp2_settings_entry(settings_id: Int32($0.0.rawValue), value: UInt32(truncatingIfNeeded: $0.1))
        }
        guard
            nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), settings, settings.count)
                == 0,
            nghttp2_session_set_local_window_size(
                session, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, Int32(HTTP2Session.window)) == 0
        else { throw failed }
    }

    deinit { nghttp2_session_del(session) }

    /// What a server may send ahead, on a stream and on the connection, in octets.
    private static let window = 1 << 20

    // MARK: An exchange

    /// Begins an exchange; the one before must be over.
    func begin(_ request: HTTPRequest, _ limits: HTTPLimits) {
        assembly = ResponseAssembly(request.method, limits)
        body = request.body[...]
        hasAnswer = false
        message = nil
        outcome = nil
        if let failure { return fail(failure, repetition: .any) }
        let pseudo = [
            (":method", request.method.rawValue), (":scheme", "https"), (":authority", request.url.authority),
            (":path", request.url.target),
        ]
        let fields = pseudo + request.wireFields.all.map { ($0.name, $0.value) }
        // Names and values lie behind each other, and nghttp2 copies them within the call.
        var text: [UInt8] = []
        for (name, value) in fields {
            text += name.utf8
            text += value.utf8
        }
        let id = text.withUnsafeMutableBufferPointer { bytes -> Int32 in
            guard var position = bytes.baseAddress else { return -1 }
            let lines = fields.map { name, value in
                let line = nghttp2_nv(
                    name: position, value: position + name.utf8.count, namelen: name.utf8.count,
                    valuelen: value.utf8.count, flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue))
                position += name.utf8.count + value.utf8.count
                return line
            }
            if request.body.isEmpty {
                return nghttp2_submit_request(session, nil, lines, lines.count, nil, nil)
            }
            var provider = nghttp2_data_provider()
            provider.read_callback = onBodyWanted
            return nghttp2_submit_request(session, nil, lines, lines.count, &provider, nil)
        }
        guard id > 0 else {
            return fail(
                HTTPClientError(.requestRefused, "the connection takes no more requests"), repetition: .any)
        }
        stream = id
    }

    /// Takes received octets.
    func feed(_ bytes: ByteBuffer) {
        guard failure == nil else { return }
        let used = bytes.withUnsafeReadableBytes {
            nghttp2_session_mem_recv(session, $0.bindMemory(to: UInt8.self).baseAddress, $0.count)
        }
        if used < 0 { fail(failure ?? HTTP2Session.error(used)) }
    }

    /// Octets to send; nil: none, or the session has failed.
    func takeOutput(_ allocator: ByteBufferAllocator) -> ByteBuffer? {
        var output: ByteBuffer?
        while failure == nil {
            var bytes: UnsafePointer<UInt8>?
            let count = nghttp2_session_mem_send(session, &bytes)
            guard count != 0 else { break }
            guard count > 0, let bytes else {
                fail(failure ?? HTTP2Session.error(count))
                break
            }
            if output == nil { output = allocator.buffer(capacity: count) }
            output?.writeBytes(UnsafeBufferPointer(start: bytes, count: count))
        }
        if failure == nil, isFinished {
            // Either the server has said farewell before there was a request, or nghttp2 has because of what the server
            // sent; streams that are left it lets be.
            if isGoingAway, farewell == nil {
                fail(
                    HTTPClientError(.requestRefused, "the server takes no more requests on this connection"),
                    repetition: .any)
            } else {
                fail(HTTPClientError(.protocolError, "HTTP/2: \(farewell ?? "the session has ended")"))
            }
        }
        return output
    }

    /// The outcome of the current exchange, once.
    func takeOutcome() -> ExchangeOutcome? {
        defer { outcome = nil }
        return outcome
    }

    /// Whether neither side wants to go on: the connection is of no more use.
    var isOver: Bool { failure != nil || isGoingAway || isFinished }

    private var isFinished: Bool {
        nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
    }

    /// Ends the exchange, and with it the session, for this reason; the first reason stays.
    func fail(_ error: HTTPClientError, repetition: ExchangeOutcome.Repetition? = nil) {
        if failure == nil { failure = error }
        guard assembly != nil else { return }
        end(.failure(error), repetition: repetition ?? (hasAnswer ? .no : .idempotent))
    }

    private func end(
        _ answer: Result<ResponseAssembly.Message, HTTPClientError>,
        repetition: ExchangeOutcome.Repetition = .no
    ) {
        assembly = nil
        body = []
        stream = 0
        // A stream that failed may leave a connection that works; it is given up all the same, as with HTTP/1.1.
        let isAnswered = if case .success = answer { true } else { false }
        outcome = ExchangeOutcome(
            answer: answer, isReusable: isAnswered && !isOver, repetition: repetition)
    }

    private static func error(_ code: Int) -> HTTPClientError {
        HTTPClientError(
            .protocolError, "HTTP/2: \(String(cString: nghttp2_strerror(Int32(truncatingIfNeeded: code))))")
    }

    // MARK: Called back

    /// Does `body` with the assembly of this stream; false: it fails the session.
    fileprivate func receive(
        _ stream: Int32, _ body: (inout ResponseAssembly) throws(HTTPClientError) -> Void
    ) -> Bool {
        guard stream == self.stream, var current = assembly else { return true }
        assembly = nil
        defer { assembly = current }
        hasAnswer = true
        do throws(HTTPClientError) {
            try body(&current)
            return true
        } catch {
            if failure == nil { failure = error }
            return false
        }
    }

    fileprivate func receiveEnd(_ stream: Int32) -> Bool {
        var whole: ResponseAssembly.Message?
        guard receive(stream, { assembly throws(HTTPClientError) in whole = try assembly.end() }) else {
            return false
        }
        guard let whole, stream == self.stream else { return true }
        message = whole
        // Where the request's body is not out yet, the answer did not wait for it: the connection is then given up.
        if !body.isEmpty {
            isGoingAway = true
            end(.success(whole))
        }
        return true
    }

    fileprivate func receiveGoAway() { isGoingAway = true }

    fileprivate func sentGoAway(_ code: UInt32) { farewell = String(cString: nghttp2_http2_strerror(code)) }

    fileprivate func streamClosed(_ stream: Int32, _ code: UInt32) {
        guard stream == self.stream, assembly != nil else { return }
        if let message { return end(.success(message)) }
        if code == NGHTTP2_REFUSED_STREAM.rawValue {
            return end(
                .failure(HTTPClientError(.requestRefused, "the server turned the request away unread")),
                repetition: .any)
        }
        let name = String(cString: nghttp2_http2_strerror(code))
        end(
            .failure(
                failure
                    ?? (code == NGHTTP2_NO_ERROR.rawValue
                        ? HTTPClientError(.connectionClosed, "the server ended its answer half way")
                        : HTTPClientError(.protocolError, "HTTP/2: the stream ended with \(name)"))))
    }

    fileprivate func provideBody(
        _ room: UnsafeMutableBufferPointer<UInt8>, _ flags: UnsafeMutablePointer<UInt32>
    ) -> Int {
        let piece = body.prefix(room.count)
        _ = room.update(fromContentsOf: piece)
        body = body.dropFirst(piece.count)
        if body.isEmpty { flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
        return piece.count
    }
}

/// The session behind nghttp2's user data.
private func owner(_ userData: UnsafeMutableRawPointer?) -> HTTP2Session? {
    userData.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
}

private let failed = Int32(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)

private func onBeginHeaders(
    _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ userData: UnsafeMutableRawPointer?
) -> Int32 {
    guard let owner = owner(userData), let frame else { return failed }
    return owner.receive(frame.pointee.hd.stream_id) { _ in } ? 0 : failed
}

private func onHeader(
    _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ name: UnsafePointer<UInt8>?,
    _ nameLength: Int, _ value: UnsafePointer<UInt8>?, _ valueLength: Int, _: UInt8,
    _ userData: UnsafeMutableRawPointer?
) -> Int32 {
    guard let owner = owner(userData), let frame else { return failed }
    let nameText = String(decoding: UnsafeBufferPointer(start: name, count: nameLength), as: UTF8.self)
    let valueText = String(decoding: UnsafeBufferPointer(start: value, count: valueLength), as: UTF8.self)
    let isFine = owner.receive(frame.pointee.hd.stream_id) { assembly throws(HTTPClientError) in
        if nameText == ":status" {
            try assembly.receive(status: Int(valueText) ?? 0)
        } else {
            try assembly.receive(field: nameText, valueText)
        }
    }
    return isFine ? 0 : failed
}

private func onData(
    _: OpaquePointer?, _: UInt8, _ stream: Int32, _ bytes: UnsafePointer<UInt8>?, _ count: Int,
    _ userData: UnsafeMutableRawPointer?
) -> Int32 {
    guard let owner = owner(userData) else { return failed }
    let isFine = owner.receive(stream) { assembly throws(HTTPClientError) in
        try assembly.receive(body: UnsafeBufferPointer(start: bytes, count: count))
    }
    return isFine ? 0 : failed
}

private func onFrame(
    _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ userData: UnsafeMutableRawPointer?
) -> Int32 {
    guard let owner = owner(userData), let frame else { return failed }
    let header = frame.pointee.hd
    let type = UInt32(header.type)
    if type == NGHTTP2_GOAWAY.rawValue { owner.receiveGoAway() }
    guard type == NGHTTP2_HEADERS.rawValue || type == NGHTTP2_DATA.rawValue else { return 0 }
    if type == NGHTTP2_HEADERS.rawValue {
        let isFine = owner.receive(header.stream_id) { assembly throws(HTTPClientError) in
            try assembly.receiveHeaderEnd()
        }
        if !isFine { return failed }
    }
    guard UInt32(header.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0 else { return 0 }
    return owner.receiveEnd(header.stream_id) ? 0 : failed
}

private func onFrameSent(
    _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ userData: UnsafeMutableRawPointer?
) -> Int32 {
    guard let frame, UInt32(frame.pointee.hd.type) == NGHTTP2_GOAWAY.rawValue else { return 0 }
    owner(userData)?.sentGoAway(frame.pointee.goaway.error_code)
    return 0
}

private func onStreamClose(
    _: OpaquePointer?, _ stream: Int32, _ code: UInt32, _ userData: UnsafeMutableRawPointer?
) -> Int32 {
    owner(userData)?.streamClosed(stream, code)
    return 0
}

private func onBodyWanted(
    _: OpaquePointer?, _: Int32, _ room: UnsafeMutablePointer<UInt8>?, _ length: Int,
    _ flags: UnsafeMutablePointer<UInt32>?, _: UnsafeMutablePointer<nghttp2_data_source>?,
    _ userData: UnsafeMutableRawPointer?
) -> Int {
    guard let owner = owner(userData), let flags else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
    return owner.provideBody(UnsafeMutableBufferPointer(start: room, count: length), flags)
}

/// An event loop runs a session's code; no other thread can reach it.
@available(*, unavailable)
extension HTTP2Session: Sendable {}
