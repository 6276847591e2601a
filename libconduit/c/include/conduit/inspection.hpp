// SPDX-License-Identifier: MIT OR Apache-2.0
// Looking at a region from outside. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_INSPECTION
#define CONDUIT_HPP_INSPECTION

#include "registry.hpp"
#include "sample.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>
#include <optional>
#include <string>
#include <vector>

namespace conduit {

/// The type of one value of a message. Later versions may add types.
enum class Element : std::int32_t {
    bytes = CONDUIT_ELEMENT_BYTES,       ///< Bytes of which nothing else is known.
    structure = CONDUIT_ELEMENT_STRUCT,  ///< A structure.
    boolean = CONDUIT_ELEMENT_BOOL,      ///< A bool.
    u8 = CONDUIT_ELEMENT_U8,             ///< A std::uint8_t.
    u16 = CONDUIT_ELEMENT_U16,           ///< A std::uint16_t.
    u32 = CONDUIT_ELEMENT_U32,           ///< A std::uint32_t.
    u64 = CONDUIT_ELEMENT_U64,           ///< A std::uint64_t.
    i8 = CONDUIT_ELEMENT_I8,             ///< A std::int8_t.
    i16 = CONDUIT_ELEMENT_I16,           ///< A std::int16_t.
    i32 = CONDUIT_ELEMENT_I32,           ///< A std::int32_t.
    i64 = CONDUIT_ELEMENT_I64,           ///< A std::int64_t.
    f32 = CONDUIT_ELEMENT_F32,           ///< A float.
    f64 = CONDUIT_ELEMENT_F64,           ///< A double.
};

struct Field;

/// What the bytes of a message mean: one value, or an array of them.
struct Shape {
    Element element = Element::bytes;  ///< The type of the value, or of each element.
    bool is_array = false;             ///< Whether it is an array. An array of arrays is one array of all elements.
    std::uint64_t count = 1;           ///< Number of elements; 1 if it is no array.
    std::uint64_t element_size = 0;    ///< Size of one element in bytes.
    std::uint64_t size = 0;            ///< Size of all elements in bytes.
    std::vector<Field> fields;         ///< The fields of a structure, ordered by offset.
    std::string text;                  ///< As text, such as "f64[3]" or "{x f32, y f32}[16]".
};

/// A field of a structure.
struct Field {
    std::string name;          ///< Its name.
    std::uint64_t offset = 0;  ///< Its offset in the structure in bytes.
    Shape shape;               ///< Its shape.
};

/// What a topic says of a message that it keeps: everything but the message.
struct MessageHeader {
    std::uint64_t sequence = 0;  ///< Sequence number: the first of a topic has 0.
    /// When it was published; std::nullopt if the publisher has time stamps turned off.
    std::optional<std::chrono::steady_clock::time_point> published_at;
    std::uint64_t size = 0;  ///< Length in bytes.
};

/// Who may use the file of a region.
struct FileAccess {
    std::uint32_t uid = 0;   ///< User id of its owner.
    std::uint32_t gid = 0;   ///< Numeric id of its group.
    std::uint32_t mode = 0;  ///< Its permission bits, such as 0640.
};

namespace detail {

inline Shape shape_of(const conduit_shape& from) {
    Shape shape;
    shape.element = static_cast<conduit::Element>(from.element);
    shape.is_array = from.is_array;
    shape.count = from.count;
    shape.element_size = from.element_size;
    shape.size = from.size;
    shape.text = text_or_empty(from.text);
    for (std::size_t at = 0; at < from.field_count; ++at) {
        const conduit_field& field = *from.fields[at];
        shape.fields.push_back({text_or_empty(field.name), field.offset, shape_of(*field.shape)});
    }
    return shape;
}

}  // namespace detail

/**
 * The region of a topic or raw region, looked at from outside: it is read and not mapped. That costs its owner
 * nothing, and needs no registry. The topic may be closed or orphaned.
 *
 *     auto inspection = conduit::Inspection::open("imu");
 *     if (const auto shape = inspection.shape()) std::puts(shape->text.c_str());
 */
class Inspection {
public:
    /// An object that is not open.
    Inspection() noexcept = default;

    /**
     * Opens a region to look at it.
     *
     * @throws InvalidName, NotFound, PermissionDenied, LayoutError, WrongKind (a file that Conduit did not
     *         create), IoError, InvalidArgument
     */
    [[nodiscard]] static Inspection open(const std::string& name, const Domain& domain = {}) {
        Inspection inspection;
        detail::check(inspection.open_into(name, domain));
        return inspection;
    }
    static Result<Inspection> open(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<Inspection>(
            [&](Inspection& inspection) { return inspection.open_into(name, domain); });
    }

    /// The region as it is now, with its owner and subscribers as they say they are.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] TopicInfo describe() {
        TopicInfo topic;
        detail::check(describe_into(topic));
        return topic;
    }
    Result<TopicInfo> describe(std::nothrow_t) noexcept {
        return detail::Access::result<TopicInfo>([&](TopicInfo& topic) { return describe_into(topic); });
    }

    /// The type of the topic's messages, as its publisher declared it.
    /// @throws InvalidHandle, Forked, WrongKind (a raw region)
    [[nodiscard]] TypeInfo message_type() const {
        conduit_type type = {};
        detail::check(conduit_inspection_type(handle_.get(), &type));
        return {type.name, static_cast<Kind>(type.kind), type.size, type.align};
    }

    /// What the bytes of the topic's messages mean, as its publisher says; of a slice, of one element.
    /// std::nullopt if it does not say, and for a raw region.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::optional<Shape> shape() const {
        std::optional<Shape> shape;
        detail::check(shape_into(shape));
        return shape;
    }
    Result<std::optional<Shape>> shape(std::nothrow_t) const noexcept {
        return detail::Access::result<std::optional<Shape>>(
            [&](std::optional<Shape>& shape) { return shape_into(shape); });
    }

    /**
     * The headers of the messages that the topic keeps from `position` on, oldest first. `position` becomes
     * where to continue. Begin with 0 for all that is kept, or with UINT64_MAX for none. Messages that are
     * overwritten before they are read are left out.
     *
     * @throws InvalidHandle, Forked, WrongKind (a raw region)
     */
    [[nodiscard]] std::vector<MessageHeader> messages(std::uint64_t& position) const {
        std::vector<MessageHeader> messages;
        detail::check(messages_into(position, messages));
        return messages;
    }
    Result<std::vector<MessageHeader>> messages(std::uint64_t& position, std::nothrow_t) const noexcept {
        return detail::Access::result<std::vector<MessageHeader>>(
            [&](std::vector<MessageHeader>& messages) { return messages_into(position, messages); });
    }

    /// Who may use the region's file, as it is now.
    /// @throws InvalidHandle, Forked, IoError
    [[nodiscard]] FileAccess access() const {
        FileAccess access;
        detail::check(access_into(access));
        return access;
    }
    Result<FileAccess> access(std::nothrow_t) const noexcept {
        return detail::Access::result<FileAccess>([&](FileAccess& access) { return access_into(access); });
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Closes the region. Does nothing if it is not open. The destructor does the same.
    void close() noexcept { handle_.reset(); }

private:
    conduit_error open_into(const std::string& name, const Domain& domain) {
        conduit_inspection* inspection = nullptr;
        const conduit_error code =
            conduit_inspection_open(detail::text(name).c_str(), detail::CDomain(domain).get(), &inspection);
        handle_.reset(inspection);
        return code;
    }

    conduit_error describe_into(TopicInfo& topic) {
        const conduit_topic* found = nullptr;
        const conduit_error code = conduit_inspection_describe(handle_.get(), &found);
        if (code == CONDUIT_OK) {
            topic = detail::topic_info(*found);
        }
        return code;
    }

    conduit_error shape_into(std::optional<Shape>& shape) const {
        const conduit_shape* found = nullptr;
        const conduit_error code = conduit_inspection_shape(handle_.get(), &found);
        if (found != nullptr) {
            shape = detail::shape_of(*found);
        }
        return code;
    }

    conduit_error messages_into(std::uint64_t& position, std::vector<MessageHeader>& messages) const {
        conduit_message_header headers[64];
        std::size_t count = 0;
        conduit_error code = CONDUIT_OK;
        do {
            code = conduit_inspection_messages(handle_.get(), &position, headers, std::size(headers), &count);
            for (std::size_t at = 0; at < count; ++at) {
                const conduit_message_header& from = headers[at];
                messages.push_back({from.sequence, detail::published_at(from.stamp_ns), from.size});
            }
        } while (count == std::size(headers));
        return code;
    }

    conduit_error access_into(FileAccess& access) const {
        conduit_access found = {};
        const conduit_error code = conduit_inspection_access(handle_.get(), &found);
        access = {found.uid, found.gid, found.mode};
        return code;
    }

    detail::InspectionHandle handle_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_INSPECTION
