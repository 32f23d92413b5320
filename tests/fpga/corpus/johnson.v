// A ring of twelve with a twist: 2 MHz.
module top (input CLK, output ICE_27);
    reg [11:0] s = 0;
    always @(posedge CLK) s <= {s[10:0], ~s[11]};
    assign ICE_27 = s[5];
endmodule
