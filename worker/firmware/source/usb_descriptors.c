#include "pico/unique_id.h"
#include "tusb.h"

#define VENDOR_ID 0x1209  // pid.codes, as pico-ice-sdk has it
#define PRODUCT_ID 0xb1c0
#define LANGUAGE_ENGLISH 0x0409

enum { INTERFACE_CDC, INTERFACE_CDC_DATA, INTERFACES };
enum { ENDPOINT_NOTIFICATION = 0x81, ENDPOINT_OUT = 0x02, ENDPOINT_IN = 0x82 };
enum { STRING_LANGUAGE, STRING_MANUFACTURER, STRING_PRODUCT, STRING_SERIAL, STRING_PORT };

static const tusb_desc_device_t device = {
    .bLength = sizeof device,
    .bDescriptorType = TUSB_DESC_DEVICE,
    .bcdUSB = 0x0200,
    .bDeviceClass = TUSB_CLASS_MISC,
    .bDeviceSubClass = MISC_SUBCLASS_COMMON,
    .bDeviceProtocol = MISC_PROTOCOL_IAD,
    .bMaxPacketSize0 = CFG_TUD_ENDPOINT0_SIZE,
    .idVendor = VENDOR_ID,
    .idProduct = PRODUCT_ID,
    .bcdDevice = USB_VERSION,
    .iManufacturer = STRING_MANUFACTURER,
    .iProduct = STRING_PRODUCT,
    .iSerialNumber = STRING_SERIAL,
    .bNumConfigurations = 1,
};

static const uint8_t configuration[] = {
    TUD_CONFIG_DESCRIPTOR(1, INTERFACES, 0, TUD_CONFIG_DESC_LEN + TUD_CDC_DESC_LEN, 0, 250),
    TUD_CDC_DESCRIPTOR(INTERFACE_CDC, STRING_PORT, ENDPOINT_NOTIFICATION, 8, ENDPOINT_OUT, ENDPOINT_IN, 64),
};

static const char *const strings[] = {
    [STRING_MANUFACTURER] = "icebus",
    [STRING_PRODUCT] = "icebus " BOARD_NAME,
    [STRING_PORT] = "measurements",
};

uint8_t const *tud_descriptor_device_cb(void) { return (uint8_t const *)&device; }

uint8_t const *tud_descriptor_configuration_cb(uint8_t index) { return configuration; }

uint16_t const *tud_descriptor_string_cb(uint8_t index, uint16_t language) {
    static uint16_t descriptor[1 + 32];
    char serial[2 * PICO_UNIQUE_BOARD_ID_SIZE_BYTES + 1];
    size_t length = 0;
    if (index == STRING_LANGUAGE) {
        descriptor[++length] = LANGUAGE_ENGLISH;
    } else if (index <= STRING_PORT) {
        pico_get_unique_board_id_string(serial, sizeof serial);
        const char *text = index == STRING_SERIAL ? serial : strings[index];
        while (text[length]) {
            descriptor[length + 1] = (uint8_t)text[length];
            length++;
        }
    } else {
        return NULL;
    }
    descriptor[0] = (uint16_t)(TUSB_DESC_STRING << 8 | (2 * length + 2));
    return descriptor;
}
